"""Claims about reading a dataset, with our code and without."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pytest
from dataset.examples import DEVICE, FAILED, RUN, step, step_with

from moeprof.dataset.read import comparable, read_measurements, read_runs, read_samples
from moeprof.dataset.store import open_run
from moeprof.errors import DatasetError
from moeprof.record import Source

if TYPE_CHECKING:
    from pathlib import Path

OTHER = replace(RUN, run_id="ffffffffffff")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Return a simulated and a measured run, the latter on another kind of device."""
    with open_run(tmp_path, RUN, flush_points=2) as writer:
        for index in (2, 0, 1):
            writer.add(*step(index, num_ranks=2), None)
    with open_run(tmp_path, OTHER) as writer:
        changes: dict[str, Any] = {
            "run_id": OTHER.run_id,
            "source": Source.MEASURED,
            "device": replace(DEVICE, kind="cuda", uuid=""),
        }
        writer.add(*step(0, **changes), None)
        writer.add(*step_with(1, FAILED, **changes), None)
    return tmp_path


def test_one_run_is_read_in_its_order(dataset: Path) -> None:
    table = read_measurements(dataset, run_id=RUN.run_id)

    assert table["order_index"].to_pylist() == [0, 0, 1, 1, 2, 2]
    assert table["ep_rank"].to_pylist() == [0, 1] * 3
    assert [run.run_id for run in read_runs(dataset)] == [RUN.run_id, OTHER.run_id]


def test_samples_go_with_their_rows(dataset: Path) -> None:
    samples = read_samples(dataset, run_id=OTHER.run_id)

    assert samples["sample_index"].to_pylist() == [0, 1, 2]
    assert samples.to_pylist() == step(0, run_id=OTHER.run_id)[1]


def test_sources_are_not_mixed_unless_named(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="one source, got measured, simulated") as refused:
        read_measurements(dataset)
    assert refused.value.hint is not None
    assert "sources=['measured', 'simulated']" in refused.value.hint

    measured = read_measurements(dataset, sources=["measured"])
    assert set(measured["device_kind"].to_pylist()) == {"cuda"}
    assert measured["device_uuid"].to_pylist() == [None, None]


def test_device_kinds_are_not_mixed_unless_named(dataset: Path) -> None:
    sources = ["measured", "simulated"]
    with pytest.raises(DatasetError, match="one device_kind, got cuda, sim:h200-sxm"):
        read_samples(dataset, sources=sources)

    kinds = ["cuda", "sim:h200-sxm"]
    assert read_measurements(dataset, sources=sources, device_kinds=kinds).num_rows == 8
    assert read_samples(dataset, sources=sources, device_kinds=kinds).num_rows == 21


def test_a_source_that_is_not_there_is_named(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="no row has source 'imported'"):
        read_measurements(dataset, sources=["imported"])


def test_tables_of_several_folders_are_judged_alike(dataset: Path) -> None:
    table = read_measurements(dataset, run_id=RUN.run_id)

    assert comparable(table).equals(table)


def test_a_run_that_is_not_there_is_named(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="has no run abc") as refused:
        read_measurements(dataset, run_id="abc")

    assert refused.value.hint == "There is 0123456789ab, ffffffffffff."


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_what_is_no_dataset_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(DatasetError, match=name):
        read_measurements(tmp_path / name)


def test_rows_of_a_running_writer_are_seen_once_and_only_if_wanted(tmp_path: Path) -> None:
    with open_run(tmp_path, RUN, flush_points=2) as writer:
        for index in range(3):
            writer.add(*step(index), None)

        assert read_measurements(tmp_path).num_rows == 3
        assert read_samples(tmp_path).num_rows == 9
        assert read_measurements(tmp_path, include_unflushed=False).num_rows == 2
        assert read_samples(tmp_path, include_unflushed=False).num_rows == 6


def test_a_run_with_no_row_yet_is_an_empty_table(tmp_path: Path) -> None:
    open_run(tmp_path, RUN).close()

    assert read_measurements(tmp_path).num_rows == 0
    assert read_samples(tmp_path).num_rows == 0


def test_duckdb_opens_the_folder_in_one_line(dataset: Path) -> None:
    query = f"select count(*), sum(energy_joules) from '{dataset}/measurements/*.parquet'"  # noqa: S608

    ((count, joules),) = duckdb.sql(query).fetchall()

    assert count == 8
    assert joules > 0


def test_pandas_opens_the_folder_in_one_line(dataset: Path) -> None:
    frame = pd.read_parquet(dataset / "samples")

    assert len(frame) == 21
    assert frame["latency_seconds"].notna().all()


def test_pyarrow_opens_the_folder_in_one_line(dataset: Path) -> None:
    table = ds.dataset(dataset / "measurements").to_table()

    assert table.num_rows == 8
    assert table.schema.field("latency_seconds").metadata[b"unit"] == b"s"
