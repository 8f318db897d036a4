"""Claims about writing a run, resuming it, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset.examples import LOST, RUN, outcome, step, step_with

from moeprof.dataset import files
from moeprof.dataset.journal import journal_path
from moeprof.dataset.read import read_measurements, read_runs, read_samples
from moeprof.dataset.run import run_path
from moeprof.dataset.schema import MEASUREMENTS, SAMPLES, SCHEMA_VERSION, is_in_version
from moeprof.dataset.store import open_run
from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path


def parts(folder: Path, name: str = "measurements") -> list[str]:
    return sorted(path.name for path in (folder / name).glob("*.parquet"))


def test_a_run_is_its_record_and_a_part_of_each_table(tmp_path: Path) -> None:
    with open_run(tmp_path / "new" / "dataset", RUN) as writer:
        writer.add(*step(0, num_ranks=2), None)
        assert parts(tmp_path / "new" / "dataset") == []

    folder = tmp_path / "new" / "dataset"
    assert parts(folder) == parts(folder, "samples") == ["0123456789ab-00001.parquet"]
    assert read_runs(folder) == (RUN,)


def test_a_part_is_written_every_so_many_rows(tmp_path: Path) -> None:
    with open_run(tmp_path, RUN, flush_points=2) as writer:
        for index in range(5):
            writer.add(*step(index), None)
        assert len(parts(tmp_path)) == 2

    assert len(parts(tmp_path)) == 3


def test_a_part_is_written_every_so_many_seconds(tmp_path: Path) -> None:
    now = 0.0
    with open_run(tmp_path, RUN, flush_seconds=60.0, clock=lambda: now) as writer:
        writer.add(*step(0), None)
        now = 59.0
        writer.add(*step(1), None)
        assert parts(tmp_path) == []
        now = 60.0
        writer.add(*step(2), None)
        assert len(parts(tmp_path)) == 1


def test_a_resumed_run_knows_what_is_finished_and_where_the_device_was(tmp_path: Path) -> None:
    with open_run(tmp_path, RUN) as writer:
        writer.add(*step(0, num_ranks=2), {"at": 1.5})

    with open_run(tmp_path, RUN) as writer:
        assert writer.finished == {(0, f"{0:016x}", 0), (0, f"{0:016x}", 1)}
        assert writer.last_snapshot == {"at": 1.5}


def test_a_point_measured_twice_is_our_mistake(tmp_path: Path) -> None:
    with open_run(tmp_path, RUN) as writer:
        writer.add(*step(0), None)

        with pytest.raises(AssertionError, match="measured twice"):
            writer.add(*step(0), None)


def test_a_step_that_does_not_fit_the_schema_leaves_no_trace(tmp_path: Path) -> None:
    rows, samples = step(0)
    with open_run(tmp_path, RUN) as writer:
        with pytest.raises(DatasetError, match="column batch_size"):
            writer.add([rows[0] | {"batch_size": "four"}], samples, None)
        writer.add(rows, samples, None)

    assert read_measurements(tmp_path).to_pylist() == rows


def test_notes_are_added_and_kept(tmp_path: Path) -> None:
    with open_run(tmp_path, RUN) as writer:
        writer.annotate(ceilings={"bytes_per_second": 4.8e12})
        writer.annotate(sentinel_drift_fraction=None)
        assert writer.run.notes.keys() == {"ceilings", "sentinel_drift_fraction"}

    with open_run(tmp_path, RUN) as writer:
        assert writer.run.notes["ceilings"] == {"bytes_per_second": 4.8e12}


def test_a_lost_point_is_a_note_until_it_is_measured(tmp_path: Path) -> None:
    with open_run(tmp_path, RUN) as writer:
        writer.add(*step(0), {"at": 1})
        writer.add(*step_with(1, LOST), {"at": 2})
        assert len(writer.finished) == 1
        assert writer.last_snapshot == {"at": 1}
    (lost,) = read_runs(tmp_path)[0].notes["device_lost"]
    assert (lost["order_index"], lost["status_detail"]) == (1, "no answer")
    assert read_measurements(tmp_path).num_rows == 1

    with open_run(tmp_path, RUN) as writer:
        writer.add(*step_with(1, outcome(1)), None)

    assert read_measurements(tmp_path)["status"].to_pylist() == ["ok", "ok"]
    assert read_runs(tmp_path)[0].notes["device_lost"] == []


def test_a_run_that_ends_in_an_error_is_flushed_on_the_way_out(tmp_path: Path) -> None:
    def interrupted() -> None:
        with open_run(tmp_path, RUN) as writer:
            writer.add(*step(0), None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert pq.read_table(tmp_path / "measurements").num_rows == 1


def test_two_writers_of_one_run_are_one_too_many(tmp_path: Path) -> None:
    with open_run(tmp_path, RUN), pytest.raises(DatasetError, match="by another process"):
        open_run(tmp_path, RUN)

    open_run(tmp_path, RUN).close()


def test_a_killed_process_leaves_its_points_and_no_lock(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from dataset.examples import RUN, step\n"
        "from moeprof.dataset.store import open_run\n"
        "open_run(Path(sys.argv[1]), RUN).add(*step(0), None)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, check=False
    )

    assert ended.returncode == -signal.SIGKILL
    with open_run(tmp_path, RUN) as writer:
        assert len(writer.finished) == 1


def test_two_runs_share_a_folder_at_the_same_time(tmp_path: Path) -> None:
    other = replace(RUN, run_id="ffffffffffff")
    with open_run(tmp_path, RUN) as ours, open_run(tmp_path, other) as theirs:
        ours.add(*step(0), None)
        theirs.add(*step(0, run_id="ffffffffffff"), None)

    assert read_measurements(tmp_path)["run_id"].to_pylist() == [RUN.run_id, "ffffffffffff"]


def test_a_torn_last_line_of_the_journal_is_ignored(tmp_path: Path) -> None:
    writer = open_run(tmp_path, RUN)
    writer.add(*step(0), None)
    journal = journal_path(tmp_path, RUN.run_id)
    with journal.open("ab") as file:
        file.write(b'{"rows":{"run_id":["01')
    files.close(writer._held)  # type: ignore[arg-type]  # as the kernel does after a kill

    assert read_measurements(tmp_path).num_rows == 1
    with open_run(tmp_path, RUN) as resumed:
        assert len(resumed.finished) == 1
        resumed.add(*step(1), None)
        # While the journal still holds it: the torn line must not be in the middle now.
        assert read_measurements(tmp_path).num_rows == 2


def test_a_damaged_line_before_the_last_is_refused(tmp_path: Path) -> None:
    writer = open_run(tmp_path, RUN)
    writer.add(*step(0), None)
    writer.add(*step(1), None)
    journal = journal_path(tmp_path, RUN.run_id)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + b"\0\0\n" + lines[2])
    files.close(writer._held)  # type: ignore[arg-type]

    with pytest.raises(DatasetError, match=r"0123456789ab.jsonl: line 2 is damaged"):
        open_run(tmp_path, RUN)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(DatasetError, match="must be a folder"):
        open_run(tmp_path / "file", RUN)

    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(DatasetError, match="holds files, and is no dataset"):
        open_run(tmp_path, RUN)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(DatasetError, match="Permission denied"):
        open_run(tmp_path / "dataset", RUN)


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "make_folder", refuse)

    with pytest.raises(DatasetError, match="dataset/measurements: cannot be written: Permission"):
        open_run(tmp_path / "dataset", RUN)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Return a dataset of two parts with one row each."""
    with open_run(tmp_path / "dataset", RUN, flush_points=1) as writer:
        writer.add(*step(0), None)
        writer.add(*step(1), None)
    return tmp_path / "dataset"


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_a_truncated_part_is_named_and_may_be_measured_again(finished: Path, keep: int) -> None:
    broken = finished / "measurements" / parts(finished)[0]
    broken.write_bytes(broken.read_bytes()[:keep])

    for use in (lambda: open_run(finished, RUN), lambda: read_measurements(finished)):
        with pytest.raises(DatasetError, match=broken.name) as refused:
            use()
        assert refused.value.hint is not None
        assert f"Move it and samples/{broken.name}" in refused.value.hint

    broken.unlink()
    with open_run(finished, RUN) as writer:
        assert {key[0] for key in writer.finished} == {1}
        writer.add(*step(0), None)
    assert read_measurements(finished)["order_index"].to_pylist() == [0, 1]
    assert pq.read_table(finished / "samples").num_rows == 6


def test_a_flipped_bit_is_noticed(finished: Path) -> None:
    broken = finished / "measurements" / parts(finished)[0]
    data = bytearray(broken.read_bytes())
    data[60] ^= 0x10
    broken.write_bytes(data)

    with pytest.raises(DatasetError, match=broken.name):
        read_measurements(finished)


def newer(document: dict[str, Any]) -> bytes:
    return json.dumps(document | {"schema_version": SCHEMA_VERSION + 1}).encode() + b"\n"


def test_a_newer_schema_is_refused_by_name_wherever_it_stands(finished: Path) -> None:
    def make_part_newer() -> None:
        path = finished / "measurements" / parts(finished)[0]
        table = pq.read_table(path)
        newer_version = {"schema_version": str(SCHEMA_VERSION + 1)}
        pq.write_table(table.replace_schema_metadata(newer_version), path)

    def make_journal_newer() -> None:
        path = journal_path(finished, RUN.run_id)
        path.write_bytes(newer(json.loads(path.read_bytes())))

    def make_record_newer() -> None:
        path = run_path(finished, RUN.run_id)
        path.write_bytes(newer(json.loads(path.read_bytes())))

    for make_newer in (make_part_newer, make_journal_newer, make_record_newer):
        make_newer()
        with pytest.raises(DatasetError, match=r"has schema_version \d+, this moeprof reads up to"):
            open_run(finished, RUN)


def make_older(folder: Path, version: int) -> None:
    """Turn a finished dataset into one that an older moeprof had written."""
    for name in ("measurements", "samples"):
        for file in parts(folder, name):
            table = pq.read_table(folder / name / file)
            names = [each for each in table.column_names if is_in_version(each, version)]
            old = table.select(names).replace_schema_metadata({"schema_version": str(version)})
            pq.write_table(old, folder / name / file)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_parts_of_an_older_schema_are_read_with_nulls_for_what_came_later(
    finished: Path, version: int
) -> None:
    make_older(finished, version)

    for table, schema in (
        (read_measurements(finished), MEASUREMENTS),
        (read_samples(finished), SAMPLES),
    ):
        assert table.schema.names == schema.names
        younger = [name for name in schema.names if not is_in_version(name, version)]
        assert younger or schema is SAMPLES
        assert all(table[name].null_count == table.num_rows for name in younger)
        assert table.num_rows > 0


def test_a_journal_of_an_older_schema_is_gone_on_with_in_todays(tmp_path: Path) -> None:
    path = journal_path(tmp_path, RUN.run_id)
    with open_run(tmp_path, RUN) as writer:
        writer.add(*step(0), None)
        header, line = map(json.loads, path.read_bytes().splitlines())
    for file in tmp_path.glob("*/*.parquet"):
        file.unlink()
    old = {
        table: {name: each for name, each in line[table].items() if is_in_version(name, 1)}
        for table in ("rows", "samples")
    }
    written = [header | {"schema_version": 1}, line | old]
    path.write_bytes(b"".join(json.dumps(each).encode() + b"\n" for each in written))

    with open_run(tmp_path, RUN) as writer:
        assert json.loads(path.read_bytes().splitlines()[0])["schema_version"] == SCHEMA_VERSION
        writer.add(*step(1), None)

    assert read_measurements(tmp_path)["order_index"].to_pylist() == [0, 1]


def test_a_parquet_file_of_somebody_else_is_refused(finished: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), finished / "measurements" / "other.parquet")

    with pytest.raises(DatasetError, match=r"other.parquet: must have a schema_version"):
        read_measurements(finished)
