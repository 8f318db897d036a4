"""Claims about the columns of the dataset and the one way into them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from dataset.examples import FAILED, WORKLOAD, identity, outcome
from hypothesis import given
from hypothesis import strategies as st

from moeprof.dataset.journal import Journal, Step
from moeprof.dataset.parts import read_part, write_part
from moeprof.dataset.row import measurement_row, sample_rows
from moeprof.dataset.schema import MEASUREMENTS, SAMPLES, is_in_version, to_columns, to_table
from moeprof.errors import DatasetError
from moeprof.record import Outcome, Status

if TYPE_CHECKING:
    from pathlib import Path

UNIT = re.compile(
    r"(.*_)?(seconds|joules|watts|celsius|hertz|fraction)"
    r"(_(ci_low|ci_high|p10|p90|p99|min|max|start|end))?"
)
SYMBOLS = {"seconds": "s", "joules": "J", "watts": "W", "celsius": "degC", "hertz": "Hz"}


@pytest.mark.parametrize("schema", [MEASUREMENTS, SAMPLES], ids=["measurements", "samples"])
def test_every_real_column_names_the_unit_that_its_metadata_states(schema: pa.Schema) -> None:
    for field in schema:
        assert field.metadata[b"unit"]
        assert field.metadata[b"description"]
        # The design calls this share by its own name.
        if pa.types.is_floating(field.type) and field.name != "confidence":
            named = UNIT.fullmatch(field.name)
            assert named, field.name
            symbols = [SYMBOLS.get(named[2], "1")]
            if named[1] and named[1].endswith("_per_"):
                symbols.insert(0, SYMBOLS[named[1].removesuffix("_per_").rpartition("_")[2]])
            assert field.metadata[b"unit"].decode() == "/".join(symbols)


def test_a_row_has_every_column_and_no_other() -> None:
    row = measurement_row(identity(), WORKLOAD, outcome(1))

    assert row.keys() == set(MEASUREMENTS.names)
    assert {key for key, value in row.items() if value is None} == {
        "status_detail",
        "memory_celsius",
        "energy_absent_reason",
        "energy_parts_absent_reason",
        "engine",
        "engine_version",
        "kernel_choice",
        "kernel_version",
        "kernel_config_file",
    }
    assert row["clock_event_reasons"] == ["idle", "sw_power_cap"]
    assert row["num_samples"] == 3
    assert row["throttle_events"] == [
        {"start_seconds": 0.5, "end_seconds": 0.75, "cause": "sw_power_cap", "told": True}
    ]
    assert row["leakage_joules"] == 0.01


def test_a_row_says_which_inner_kernel_ran() -> None:
    what = replace(
        outcome(1), kernel_choice="stream/r8", kernel_version="2.1", kernel_config_file="h200.json"
    )

    row = measurement_row(identity(kernel="auto"), WORKLOAD, what)

    assert row["kernel"] == "auto"
    assert [row[f"kernel_{name}"] for name in ("choice", "version", "config_file")] == [
        "stream/r8",
        "2.1",
        "h200.json",
    ]


def test_what_older_schemas_lack_reads_as_null() -> None:
    younger = {name for name in MEASUREMENTS.names if not is_in_version(name, 3)}

    assert younger == {"kernel_choice", "kernel_version", "kernel_config_file"}
    assert all(MEASUREMENTS.field(name).nullable for name in younger)


def test_an_unmeasured_point_is_a_row_with_a_reason_and_nulls() -> None:
    row = measurement_row(identity(), WORKLOAD, FAILED)

    assert row["status"] == "out_of_memory"
    assert row["status_detail"] == "needs 3 bytes more"
    assert row["latency_seconds"] is None
    assert row["num_active_experts"] == 2
    assert sample_rows(identity(), WORKLOAD, FAILED) == []


def test_an_unknown_column_is_refused_with_the_nearest_one() -> None:
    row = measurement_row(identity(), WORKLOAD, FAILED) | {"latency_second": 1.0}

    with pytest.raises(DatasetError, match="'latency_second'; did you mean 'latency_seconds'"):
        to_columns([row], MEASUREMENTS)


def test_a_forgotten_column_is_refused() -> None:
    row = measurement_row(identity(), WORKLOAD, FAILED)
    del row["energy_joules"]

    with pytest.raises(DatasetError, match="energy_joules missing"):
        to_columns([row], MEASUREMENTS)


def test_a_null_where_there_must_be_a_value_is_refused() -> None:
    row = measurement_row(identity(), WORKLOAD, FAILED) | {"kernel": None}

    with pytest.raises(DatasetError, match="column kernel"):
        to_columns([row], MEASUREMENTS)


@pytest.mark.parametrize(
    ("column", "value"),
    [("batch_size", "four"), ("rows_per_expert", [2**40]), ("recorded_at", "noon")],
)
def test_a_value_of_another_type_is_refused(column: str, value: Any) -> None:
    row = measurement_row(identity(), WORKLOAD, FAILED) | {column: value}

    with pytest.raises(DatasetError, match=f"column {column}"):
        to_table(to_columns([row], MEASUREMENTS), MEASUREMENTS)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(AssertionError):
        identity(recorded_at=datetime(2026, 1, 2))  # noqa: DTZ001 - that is the point


def test_units_and_meanings_survive_parquet(tmp_path: Path) -> None:
    rows = [measurement_row(identity(), WORKLOAD, outcome(1))]
    write_part(tmp_path / "a.parquet", to_table(to_columns(rows, MEASUREMENTS), MEASUREMENTS))

    found = read_part(tmp_path / "a.parquet", MEASUREMENTS)

    assert found.schema.equals(MEASUREMENTS, check_metadata=True)
    assert found.schema.field("latency_seconds").metadata[b"unit"] == b"s"
    assert found.to_pylist() == rows


_REALS = [f.name for f in MEASUREMENTS if pa.types.is_floating(f.type)]


@given(
    values=st.lists(st.none() | st.floats(), min_size=len(_REALS), max_size=len(_REALS)),
    detail=st.none() | st.text(st.characters(codec="utf-8")),
    recorded_at=st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)),  # noqa: DTZ001
)
def test_every_value_survives_the_journal_and_parquet_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[float | None],
    detail: str | None,
    recorded_at: datetime,
) -> None:
    folder = tmp_path_factory.mktemp("round_trip")
    who = identity(recorded_at=recorded_at)
    row = measurement_row(who, WORKLOAD, Outcome(Status.FAILED, detail))
    row |= dict(zip(_REALS, values, strict=True))
    journal = Journal(folder / "a.jsonl")
    journal.load()
    journal.append(Step(to_columns([row], MEASUREMENTS), to_columns([], SAMPLES), None))

    (step,) = journal.load().steps
    write_part(folder / "a.parquet", to_table(step.rows, MEASUREMENTS))
    (found,) = read_part(folder / "a.parquet", MEASUREMENTS).to_pylist()

    assert found.keys() == row.keys()
    for name, value in row.items():
        if isinstance(value, float) and math.isnan(value):
            assert math.isnan(found[name])
        else:
            assert repr(found[name]) == repr(value) or found[name] == value != 0.0
