"""Claims about writing measurements for users of aiconfigurator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from dataset.examples import RUN, step
from dataset.importers.tables import moe_row, write_moe_perf
from hypothesis import given
from hypothesis import strategies as st

from moeprof.dataset.exporters.aiconfigurator import export
from moeprof.dataset.importers.aiconfigurator import read_points
from moeprof.dataset.importers.dialect import distribution_of
from moeprof.dataset.importers.write import Provenance, write_points
from moeprof.dataset.store import open_run
from moeprof.errors import DatasetError
from moeprof.units import seconds_from_ms

if TYPE_CHECKING:
    from pathlib import Path

FROM = Provenance("aiconfigurator", "moe_perf.parquet", "0")


def test_what_came_in_goes_out_as_it_was(tmp_path: Path) -> None:
    rows = [
        moe_row(power=500.0, power_limit=700.0),
        moe_row(moe_dtype="w4afp8", distribution="balanced", power=1.0, power_limit=700.0),
        moe_row(framework="TRTLLM", moe_ep_size=8, power=2.0, power_limit=700.0),
    ]
    there = write_moe_perf(tmp_path / "there.parquet", *rows)
    write_points(tmp_path / "out", read_points(there), FROM)

    told = export(tmp_path / "out", tmp_path / "back.parquet")

    back = pq.read_table(tmp_path / "back.parquet").to_pylist()
    assert told.num_rows == 3
    for old, new in zip(rows, back, strict=True):
        latency = new.pop("latency")
        assert abs(latency - old["latency"]) <= math.ulp(latency)
        assert new == {name: value for name, value in old.items() if name != "latency"}
    again = read_points(tmp_path / "back.parquet")
    assert again.numbers["latency_seconds"].tolist() == pytest.approx(
        [row["latency"] * 1e-3 for row in rows], rel=4e-16
    )


@pytest.mark.parametrize(
    "pattern", ["power_law:1.2", "packed_power_law:1.2", "power_law:1.2/groups:8@4"]
)
def test_however_a_power_law_was_mended_its_word_is_the_same(pattern: str) -> None:
    assert distribution_of(pattern) == "power_law_1.2"


@given(st.floats(1e-6, 1e6))
def test_milliseconds_survive_within_one_unit_in_the_last_place(latency_ms: float) -> None:
    back = latency_ms * seconds_from_ms(1.0) / seconds_from_ms(1.0)

    assert abs(back - latency_ms) <= math.ulp(latency_ms)


def test_a_measured_step_goes_out_as_its_slowest_rank(tmp_path: Path) -> None:
    with open_run(tmp_path / "out", RUN) as writer:
        rows, samples = step(0, num_ranks=2)
        writer.add(rows, samples, None)

    told = export(tmp_path / "out", tmp_path / "x.parquet")

    (row,) = pq.read_table(tmp_path / "x.parquet").to_pylist()
    slowest = max(each["latency_seconds"] for each in rows)
    assert row["latency"] == pytest.approx(slowest * 1e3)
    assert (row["framework"], row["kernel_source"], row["topk"]) == ("moeprof", "reference", 2)
    assert {"hold_celsius", "die_celsius", "latency_seconds_ci_low"} <= set(told.lost_columns)


def test_what_it_has_no_word_for_is_counted_by_reason(tmp_path: Path) -> None:
    with open_run(tmp_path / "out", RUN) as writer:
        for index, pattern in enumerate(["uniform", "zipf:1"]):
            rows, samples = step(index)
            writer.add([row | {"routing_pattern": pattern} for row in rows], samples, None)

    told = export(tmp_path / "out", tmp_path / "x.parquet")

    assert told.num_rows == 1
    assert told.left_out == {"routing pattern zipf:1, which it has no word for": 1}


def test_a_dataset_with_nothing_to_write_is_refused(tmp_path: Path) -> None:
    open_run(tmp_path / "out", RUN).close()

    with pytest.raises(DatasetError, match="no row can be written"):
        export(tmp_path / "out", tmp_path / "x.parquet")
