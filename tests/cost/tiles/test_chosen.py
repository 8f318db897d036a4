from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cost.tables import row, table

from moeprof.cost.points import points_from_table
from moeprof.cost.tiles.chosen import blocks_of_rows, tiles_of

if TYPE_CHECKING:
    from moeprof.cost.points import Points

KERNEL = "vllm_triton_tritonexperts"


def points(*tokens: int, **changes: Any) -> Points:
    usual = {"kernel": KERNEL} | changes
    return points_from_table(table([row(batch_size=each, **usual) for each in tokens]))


def test_a_tuned_file_is_read_at_the_nearest_number_of_tokens() -> None:
    # vLLM 0.24.0, H200, 128 experts of 768 in bf16: 16 rows at 128, 32 at 256, 64 at 512.
    asked = points(1, 128, 190, 195, 256, 380, 390, 512, 2**15)

    assert tiles_of(asked).num_rows.tolist() == [16, 16, 16, 32, 32, 32, 64, 64, 128]
    assert tiles_of(asked).is_tuned.all()


def test_a_file_is_of_the_rank_s_own_experts_and_slice() -> None:
    asked = points(512, num_experts=512, ep_size=4, expert_size=1536, tp_size=2)

    assert tiles_of(asked).is_tuned.all()
    assert tiles_of(asked).num_rows.tolist() == [64]


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

    assert tiles_of(asked).num_rows.tolist() == [16, 16, 32, 32, 64, 64, 128, 128]
    assert not tiles_of(asked).is_tuned.any()


def test_block_scaled_formats_have_a_default_rule_of_their_own() -> None:
    asked = points(1, 64, 65, 9999, weight_dtype="fp8_block", expert_size=770)

    assert tiles_of(asked).num_rows.tolist() == [16, 16, 64, 64]


@pytest.mark.parametrize("changes", [{"kernel": "marlin"}, {"engine": "sglang"}])
def test_another_kernel_s_tiles_are_not_known(changes: dict) -> None:
    asked = points(1, 64, 4096, **changes)

    assert tiles_of(asked).num_rows.tolist() == [0, 0, 0]
    assert not tiles_of(asked).is_tuned.any()
    assert not blocks_of_rows(asked).any()


def test_before_019_vllm_told_no_kernel_and_took_tiles_by_the_rank_s_experts() -> None:
    old = {"kernel": "vllm_fused_moe", "engine_version": "0.14.0", "expert_size": 770}
    asked = points(1, 16, 17, 4096, ep_size=8, **old)

    assert tiles_of(asked).num_rows.tolist() == [16, 16, 64, 64]
    assert tiles_of(asked).num_columns.tolist() == [32, 32, 64, 64]
    assert not tiles_of(points(1, weight_dtype="fp8", **old)).is_known.any()
    assert not tiles_of(points(1, **old | {"engine_version": "0.22.0"})).is_known.any()


SGLANG = {"kernel": "sglang_fused_moe_triton", "engine": "sglang", "engine_version": "0.5.14"}


def test_sglang_s_tuned_files_and_rules_are_its_own() -> None:
    tuned = tiles_of(points(1, 4096, **SGLANG))
    rule = tiles_of(points(128, 129, expert_size=770, **SGLANG))

    assert tuned.is_tuned.all()
    assert rule.num_rows.tolist() == [16, 64]
    assert not rule.is_tuned.any()


def test_sglang_s_rule_for_fp8_looks_at_shared_memory() -> None:
    fp8 = SGLANG | {"weight_dtype": "fp8", "expert_size": 770}
    l40s = {"device_kind": "imported:l40s", "device_name": "NVIDIA L40S"}

    assert tiles_of(points(1, 4096, **fp8)).num_rows.tolist() == [64, 128]
    assert tiles_of(points(1, 4096, **fp8 | l40s)).num_rows.tolist() == [32, 64]


def test_known_and_unknown_kernels_may_stand_in_one_table() -> None:
    rows = [row(kernel="marlin"), row(kernel=KERNEL), row(kernel="marlin")]
    asked = points_from_table(table(rows))

    assert tiles_of(asked).num_rows.tolist() == [0, 16, 0]


def test_rows_have_blocks_of_their_own_up_to_a_quarter_of_the_experts() -> None:
    # 4 x tokens x top-8 is at most 128 up to 4 tokens.
    assert blocks_of_rows(points(1, 4, 5, 64)).tolist() == [True, True, False, False]


def test_rows_are_sorted_by_expert_where_some_experts_are_elsewhere() -> None:
    assert not blocks_of_rows(points(1, ep_size=2)).any()
