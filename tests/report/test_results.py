from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from dataset.examples import WORKLOAD, identity, outcome

from moeprof.dataset.row import measurement_row
from moeprof.dataset.schema import MEASUREMENTS, to_columns, to_table
from moeprof.report.results import StepLine, step_lines

if TYPE_CHECKING:
    import pyarrow as pa

CEILINGS = {
    WORKLOAD.weight_dtype: {"bytes_per_second": 1e12, "flops_per_second": 1e15},
}


def lines(*changes: dict[str, Any]) -> tuple[StepLine, ...]:
    rows = [
        measurement_row(identity(rank), WORKLOAD, outcome(1)) | {"ep_rank": rank} | change
        for rank, change in enumerate(changes)
    ]
    table: pa.Table = to_table(to_columns(rows, MEASUREMENTS), MEASUREMENTS)
    return step_lines(table, CEILINGS)


def test_a_step_takes_as_long_as_its_slowest_rank() -> None:
    (line,) = lines({"latency_seconds": 2e-4}, {"latency_seconds": 5e-4})

    assert line.latency_seconds == 5e-4
    assert line.num_ranks == 2


def test_energies_of_the_ranks_add_up() -> None:
    (line,) = lines({"energy_joules": 0.25}, {"energy_joules": 0.5})

    assert line.energy_joules == 0.75


def test_a_rank_that_failed_leaves_the_step_without_a_time() -> None:
    failed = {"status": "out_of_memory", "latency_seconds": None, "energy_joules": None}

    (line,) = lines({"status": "ok"}, failed)

    assert line.status == "out_of_memory"
    assert line.latency_seconds is None
    assert line.energy_joules is None
    assert line.roofline_fraction is None


def test_a_rank_without_rows_takes_nothing_away() -> None:
    idle = {"status": "unsupported", "num_rows": 0, "latency_seconds": None, "energy_joules": None}

    (line,) = lines({"status": "ok", "energy_joules": 0.25}, idle)

    assert line.status == "ok"
    assert line.energy_joules == 0.25


def test_a_blemish_of_any_rank_is_the_steps() -> None:
    (line,) = lines(
        {"status": "imprecise", "latency_seconds": 1e-4},
        {"status": "ok", "latency_seconds": 5e-4},
    )

    assert line.status == "imprecise"
    assert line.latency_seconds == 5e-4


def test_the_roofline_is_the_least_time_over_the_measured_one() -> None:
    (line,) = lines({"weight_bytes": 10**8, "activation_bytes": 0, "latency_seconds": 2e-4})

    assert line.roofline_fraction == pytest.approx(0.5)


def test_layers_of_one_name_and_two_sizes_are_two_steps() -> None:
    assert len(lines({"expert_size": 512}, {"expert_size": 1024})) == 2


def test_sentinels_are_not_steps() -> None:
    assert lines({"role": "sentinel"}) == ()
