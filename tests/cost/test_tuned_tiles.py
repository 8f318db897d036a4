from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cost.tables import row, table

from moeprof.cost.points import points_from_table
from moeprof.cost.tuned_tiles import blocks_of_rows, is_tuned, tile_rows

if TYPE_CHECKING:
    from moeprof.cost.points import Points

KERNEL = "vllm_triton_tritonexperts"


def points(*tokens: int, **changes: Any) -> Points:
    usual = {"kernel": KERNEL} | changes
    return points_from_table(table([row(batch_size=each, **usual) for each in tokens]))


def test_a_tuned_file_is_read_at_the_nearest_number_of_tokens() -> None:
    # vLLM 0.24.0, H200, 128 experts of 768 in bf16: 16 rows at 128, 32 at 256, 64 at 512.
    asked = points(1, 128, 190, 195, 256, 380, 390, 512, 2**15)

    assert tile_rows(asked).tolist() == [16, 16, 16, 32, 32, 32, 64, 64, 128]
    assert is_tuned(asked).all()


def test_a_file_is_of_the_rank_s_own_experts_and_slice() -> None:
    asked = points(512, num_experts=512, ep_size=4, expert_size=1536, tp_size=2)

    assert is_tuned(asked).all()
    assert tile_rows(asked).tolist() == [64]


@pytest.mark.parametrize(
    "changes",
    [
        {"expert_size": 770},
        {"num_experts": 120},
        {"weight_dtype": "mxfp8"},
        {"device_kind": "imported:somebody's", "device_name": None},
    ],
)
def test_without_a_tuned_file_the_engine_s_default_rule_holds(changes: dict) -> None:
    asked = points(1, 32, 33, 96, 97, 512, 513, 9999, **changes)

    assert tile_rows(asked).tolist() == [16, 16, 32, 32, 64, 64, 128, 128]
    assert not is_tuned(asked).any()


def test_block_scaled_formats_have_a_default_rule_of_their_own() -> None:
    asked = points(1, 64, 65, 9999, weight_dtype="fp8_block", expert_size=770)

    assert tile_rows(asked).tolist() == [16, 16, 64, 64]


@pytest.mark.parametrize("changes", [{"kernel": "marlin"}, {"engine": "sglang"}])
def test_another_kernel_s_tiles_are_not_known(changes: dict) -> None:
    asked = points(1, 64, 4096, **changes)

    assert tile_rows(asked).tolist() == [0, 0, 0]
    assert not is_tuned(asked).any()
    assert not blocks_of_rows(asked).any()


def test_known_and_unknown_kernels_may_stand_in_one_table() -> None:
    rows = [row(kernel="marlin"), row(kernel=KERNEL), row(kernel="marlin")]
    asked = points_from_table(table(rows))

    assert tile_rows(asked).tolist() == [0, 16, 0]


def test_rows_have_blocks_of_their_own_up_to_a_quarter_of_the_experts() -> None:
    # 4 x tokens x top-8 is at most 128 up to 4 tokens.
    assert blocks_of_rows(points(1, 4, 5, 64)).tolist() == [True, True, False, False]


def test_rows_are_sorted_by_expert_where_some_experts_are_elsewhere() -> None:
    assert not blocks_of_rows(points(1, ep_size=2)).any()
