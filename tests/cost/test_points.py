from __future__ import annotations

import numpy as np
import pytest
from cost.tables import grid, row, table

from moeprof.cost.points import observed_from_table, points_from_table, usable
from moeprof.errors import DatasetError
from moeprof.workload.occupancy import expected_occupancy


def test_the_columns_become_arrays_and_the_texts_become_labels() -> None:
    points = points_from_table(table([row(), row(kernel="cutlass", ep_size=4, batch_size=32)]))

    assert len(points) == 2
    assert points.kernel.texts() == ["triton", "cutlass"]
    assert points.engine.texts() == ["vllm 0.24.0"] * 2
    assert points.gpu.texts() == ["h200-sxm"] * 2
    assert points.batch_size.tolist() == [16, 32]
    assert points.ep_size.tolist() == [1, 4]
    assert np.isnan(points.die_celsius).all()


def test_what_a_row_does_not_say_has_a_stated_meaning() -> None:
    needed = ("hidden_size", "expert_size", "num_experts", "top_k", "batch_size", "weight_dtype")
    found = points_from_table(table([row()]).select([*needed, "routing_pattern"]))

    assert found.engine.texts() == ["moeprof"]
    assert found.kernel.texts() == found.gpu.texts() == ["unknown"]
    assert found.activation_dtype.texts() == ["bf16"]
    assert (found.ep_size[0], found.tp_size[0], found.num_projections[0]) == (1, 1, 3)


@pytest.mark.parametrize(
    ("device_kind", "device_name", "gpu"),
    [
        ("imported:h200-sxm", "whatever", "h200-sxm"),
        ("cuda", "NVIDIA H200", "h200-sxm"),
        ("cuda", "Some Card", "cuda"),
        (None, "NVIDIA B200", "b200"),
        ("imported:some-card", "Some Card", "imported:some-card"),
    ],
)
def test_a_gpu_has_its_name_in_the_catalogue(
    device_kind: str | None, device_name: str, gpu: str
) -> None:
    found = points_from_table(table([row(device_kind=device_kind, device_name=device_name)]))

    assert found.gpu.texts() == [gpu]


def test_counted_rows_are_exact_and_come_before_the_pattern() -> None:
    counted = row(rows_per_expert=[3, 0, 5, 1], num_active_experts=99)

    occupancy = points_from_table(table([row(), counted, row()])).occupancy

    assert occupancy.num_active[1] == 3
    assert occupancy.num_rows[1] == 9
    assert occupancy.max_rows[1] == 5
    assert occupancy.num_active[0] == occupancy.num_active[2] == 128


def test_reconstructed_counts_give_way_to_the_unrounded_expectation() -> None:
    counts = {"num_active_experts": 80, "num_rows": 128, "max_rows_per_expert": 4}
    uniform = {"routing_pattern": "uniform", **counts}
    rows = [row(**uniform, rows_reconstructed=True), row(**uniform, rows_reconstructed=False)]

    active = points_from_table(table(rows)).occupancy.num_active

    assert active[0] == expected_occupancy("uniform", 128, 8, 16, 1).num_active[0]
    assert active[1] == 80


def test_counts_without_rows_take_the_rank_s_share_of_the_batch() -> None:
    occupancy = points_from_table(
        table([row(routing_pattern=None, num_active_experts=20, ep_size=2)])
    ).occupancy

    assert occupancy.num_active[0] == 20
    assert occupancy.num_rows[0] == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "row 1: batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": None}, "row 1: batch_size must be a whole number"),
        ({"hidden_size": 1.5}, "row 1: hidden_size must be a whole number"),
        ({"top_k": 129}, "row 1: top_k must be at most num_experts, got 129"),
        ({"ep_size": 129}, "row 1: ep_size must be at most num_experts, got 129"),
        ({"num_projections": 4}, "row 1: num_projections must be 1..3, got 4"),
        ({"weight_dtype": "fp7"}, "row 1: weight_dtype must be one of fp32, bf16"),
        ({"weight_dtype": None}, "row 1: weight_dtype must be one of fp32, bf16"),
        ({"routing_pattern": "uniformly"}, "row 1: "),
        ({"routing_pattern": "active:2"}, "row 1: routing pattern active:2: N must lie in"),
        ({"routing_pattern": None}, "row 1: must have rows_per_expert, a routing_pattern or"),
        ({"rows_per_expert": [1, -1]}, "row 1: rows_per_expert must be at least 0 each, got -1"),
        ({"rows_per_expert": [999]}, "row 1: rows_per_expert must add up to at most"),
        (
            {"routing_pattern": None, "num_active_experts": 0},
            "row 1: num_active_experts must be above 0 where there are rows, got 0",
        ),
        (
            {"routing_pattern": None, "num_active_experts": 500},
            "row 1: num_active_experts must be at most num_experts, got 500",
        ),
    ],
)
def test_an_impossible_row_is_refused_by_its_place(changes: dict, message: str) -> None:
    with pytest.raises(DatasetError) as refusal:
        points_from_table(table([row(), row(**changes), row()]))

    assert refusal.value.message.startswith(message)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DatasetError, match="column top_k: is missing"):
        points_from_table(table([row()]).drop_columns(["top_k"]))


def test_points_are_taken_by_index_and_by_mask() -> None:
    points = grid()
    mask = points.batch_size == 64

    by_mask, by_index = points.take(mask), points.take(np.flatnonzero(mask))

    assert len(by_mask) == 4
    assert (by_mask.hidden_size == by_index.hidden_size).all()
    assert (by_mask.occupancy.tiles == points.occupancy.tiles[mask]).all()
    assert by_mask.kernel.texts() == ["triton"] * 4


def test_rows_without_a_latency_or_of_another_status_are_counted_and_left_out() -> None:
    rows = [
        row(role="sentinel"),
        row(status="imprecise"),
        row(status="out_of_memory", latency_seconds=None),
        row(latency_seconds=None),
        row(latency_seconds=float("inf")),
    ]

    found = usable(table(rows))

    assert found.rows.tolist() == [0, 1]
    assert found.table.num_rows == 2
    assert found.num_left_out == {"out_of_memory": 1, "no_latency": 2}


def test_a_table_without_status_is_used_and_one_without_latency_refused() -> None:
    bare = table([row()]).drop_columns(["status"])

    assert usable(bare).num_left_out == {}
    with pytest.raises(DatasetError, match="column latency_seconds: is missing"):
        usable(bare.drop_columns(["latency_seconds"]))


def test_what_was_not_observed_is_nan() -> None:
    found = observed_from_table(table([row(average_watts=300.0), row()]))

    assert found.latency_seconds.tolist() == [1e-4, 1e-4]
    assert found.average_watts[0] == 300
    assert np.isnan(found.average_watts[1])
    assert np.isnan(found.energy_joules).all()
    assert len(found.take(np.array([True, False]))) == 1
