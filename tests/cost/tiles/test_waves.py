from __future__ import annotations

from typing import Any

import numpy as np
from cost.tables import row, table

from moeprof.cost.points import points_from_table
from moeprof.cost.tiles.chosen import tiles_of
from moeprof.cost.tiles.waves import waves_of

UNTUNED = {"kernel": "vllm_triton_tritonexperts", "expert_size": 512, "hidden_size": 4096}


def waves(num_sms: float = 132.0, **changes: Any) -> tuple[float, ...]:
    points = points_from_table(table([row(**UNTUNED | {"num_experts": 120} | changes)]))
    found = waves_of(points, tiles_of(points), np.array([num_sms]))
    return found.tiles[0], found.blocks[0], found.steps[0], found.whole_steps[0]


def test_blocks_are_tiles_of_rows_by_tiles_of_columns_of_both_products() -> None:
    # 4 tokens, balanced: 32 experts of a row each. vLLM's rule: tiles of 16 x 64, 128 deep.
    tiles, blocks, _, _ = waves(batch_size=4)

    assert tiles == 32
    assert blocks == 32 * (2 * 512 / 64 + 4096 / 64)


def test_a_step_is_at_least_one_loop_over_both_inner_sizes() -> None:
    # So many SMs that no block waits for another.
    _, _, steps, whole_steps = waves(batch_size=1, num_sms=1e6)

    assert steps == whole_steps == 4096 / 128 + 512 / 128


def test_more_waves_take_more_steps_and_a_begun_one_counts_as_whole() -> None:
    few, many = waves(batch_size=32), waves(batch_size=32, num_sms=20)

    assert many[2] > few[2]
    assert many[3] >= many[2]
    assert many[3] % (4096 / 128) % (512 / 128) == 0


def test_a_step_without_known_tiles_or_without_rows_has_none() -> None:
    assert waves(kernel="marlin") == (0, 0, 0, 0)
    assert waves(rows_per_expert=[0] * 120) == (0, 0, 0, 0)
