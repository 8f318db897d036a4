"""Claims about a model that was prepared for one layer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cost.tables import row, table

from moeprof.cost.layer_points import LayerRequest, points_of_layer
from moeprof.cost.model_file import load_model
from moeprof.cost.points import points_from_table
from moeprof.cost.prepared import PreparedCosts, occupancy_of_ranks
from moeprof.errors import UsageError
from moeprof.resources import data_folder
from moeprof.workload.occupancy import occupancy_of_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Points

FITTED = "models-fitted"
ROUNDING = 2.0**-24  # of a prediction; a breakdown is not rounded


@cache
def shipped(name: str) -> CostModel:
    return load_model(data_folder() / FITTED / f"{name}.json")


def drawn_rows(num_seeds: int, num_ranks: int, num_experts: int) -> NDArray[np.int64]:
    draw = np.random.default_rng(7)
    shape = (num_seeds, num_ranks, num_experts)
    rows = draw.poisson(draw.choice([0.2, 2.0, 20.0], shape)) * (draw.random(shape) < 0.6)
    return rows.astype(np.int64)


def with_rows(points: Points, rows: NDArray[np.int64]) -> Points:
    """Return a point for each rank in turn, whose rows are counted as the dataset counts them."""
    flat = rows.reshape(-1, rows.shape[-1])
    counted = occupancy_of_rows(np.arange(len(flat) + 1) * flat.shape[1], flat.ravel())
    which = np.arange(len(flat)) % len(points)
    return replace(points.take(which), occupancy=counted)


def exact(model: CostModel, points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (seconds, joules) that the model gives before it rounds them."""
    found = model.breakdown(points)
    others = sum(found[f"{name}_seconds"] ** 2 for name in ("chain", "weights", "compute"))
    seconds = (found["launch_seconds"] + np.sqrt(others)) * found["correction_ratio"]
    joules = [values for name, values in found.items() if name.endswith("_joules")]
    return seconds, np.sum(joules, axis=0)


@pytest.mark.parametrize(
    ("name", "layer", "ep_size"),
    [
        ("h200-sxm-vllm-0.24.0", "qwen3-30b-a3b", 8),
        ("h100-sxm-sglang-0.5.14", "deepseek-v3", 16),
        ("l40s-vllm-0.24.0", "olmoe-1b-7b", 1),
        ("b200-sxm-vllm-0.22.0", "qwen3-30b-a3b", 4),
        ("a100-sxm-vllm-0.14.0", "mixtral-8x7b", 4),
    ],
)
def test_a_shipped_model_prices_rows_as_if_each_were_asked_alone(
    name: str, layer: str, ep_size: int
) -> None:
    model = shipped(name)
    request = LayerRequest(layer, "64", "uniform", ep_size=ep_size)
    point = points_from_table(points_of_layer(model, request).table)
    rows = drawn_rows(40, 6, int(point.num_experts[0]))
    rows[:, :, 0] += 1  # no rank without rows here
    asked = with_rows(point, rows)

    seconds, watts = PreparedCosts.prepare(model, point).at(rows)

    assert seconds.shape == (40, 6)
    expected, joules = exact(model, asked)
    np.testing.assert_allclose(seconds.ravel(), expected, rtol=1e-9)
    np.testing.assert_allclose(seconds.ravel(), model.seconds(asked).value, rtol=ROUNDING)
    power = model.average_watts(asked)
    assert (watts is None) == (power is None)
    if watts is not None and power is not None:
        np.testing.assert_allclose((watts * seconds).ravel(), joules, rtol=1e-9)
        np.testing.assert_allclose(watts.ravel(), power.value, rtol=ROUNDING)


def points_of_batches(*batch_sizes: int) -> Points:
    return points_from_table(
        table([row(batch_size=each, routing_pattern="uniform") for each in batch_sizes])
    )


def test_every_rank_may_have_a_point_of_its_own(model: CostModel) -> None:
    points = points_of_batches(4, 64, 1024)
    rows = drawn_rows(5, 3, 128) + 1

    seconds, watts = PreparedCosts.prepare(model, points).at(rows)

    asked = with_rows(points, rows)
    assert watts is not None
    np.testing.assert_allclose(seconds.ravel(), model.seconds(asked).value, rtol=ROUNDING)
    power = model.average_watts(asked)
    assert power is not None
    np.testing.assert_allclose(watts.ravel(), power.value, rtol=ROUNDING)
    alone = PreparedCosts.prepare(model, points.take(np.array([0]))).at(rows)[0]
    assert not np.allclose(alone[:, 1], seconds[:, 1])


def test_a_rank_without_rows_costs_nothing_and_changes_nothing_for_others(
    model: CostModel,
) -> None:
    prepared = PreparedCosts.prepare(model, points_of_batches(16))
    rows = np.ones((1, 3, 128), dtype=np.int64)
    rows[0, 1] = 0

    seconds, watts = prepared.at(rows)

    assert watts is not None
    assert (seconds[0, 1], watts[0, 1]) == (0.0, 0.0)
    assert seconds[0, 0] == seconds[0, 2] == prepared.at(rows[:, :1])[0][0, 0] > 0


def test_occupancy_of_ranks_counts_as_a_loop_does() -> None:
    rows = drawn_rows(3, 4, 9)
    flat = rows.reshape(-1, 9)

    found = occupancy_of_ranks(rows)

    expected = occupancy_of_rows(np.arange(13) * 9, flat.ravel())
    np.testing.assert_array_equal(found.tiles, expected.tiles)
    np.testing.assert_array_equal(found.num_active, expected.num_active)
    np.testing.assert_array_equal(found.num_rows, expected.num_rows)
    np.testing.assert_array_equal(found.max_rows, expected.max_rows)


def test_ranks_that_were_not_prepared_are_refused(model: CostModel) -> None:
    prepared = PreparedCosts.prepare(model, points_of_batches(1, 2, 4))

    with pytest.raises(UsageError, match=r"must be \[\.\.\., 3, num_experts\], got \[2, 4, 128\]"):
        prepared.at(np.zeros((2, 4, 128), dtype=np.int64))


def test_points_of_two_kinds_of_gpu_are_refused(model: CostModel) -> None:
    rows = [row(), row(device_kind="imported:l40s", device_name="NVIDIA L40S")]

    with pytest.raises(UsageError, match="of one GPU and one kernel"):
        PreparedCosts.prepare(model, points_from_table(table(rows)))
