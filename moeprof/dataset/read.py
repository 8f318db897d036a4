"""The tables of a dataset folder, of one run or all, with what a killed run left in its journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from moeprof.dataset.folder import check_dataset, readable, run_files
from moeprof.dataset.journal import Step, read_journal, unwritten
from moeprof.dataset.parts import (
    JOURNAL_FOLDER,
    MEASUREMENTS_FOLDER,
    SAMPLES_FOLDER,
    part_paths,
    read_part,
)
from moeprof.dataset.run import RunRecord, read_run
from moeprof.dataset.schema import KEY_COLUMNS, MEASUREMENTS, SAMPLES, to_keys, to_table
from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ROW: Final = ("run_id", *KEY_COLUMNS)
_MEASUREMENT_ORDER: Final = ("run_id", "order_index", "ep_rank", "point_id")
_SAMPLE_ORDER: Final = (*_MEASUREMENT_ORDER, "sample_index")


def read_measurements(
    folder: Path,
    *,
    run_id: str | None = None,
    sources: Sequence[str] | None = None,
    device_kinds: Sequence[str] | None = None,
    include_unflushed: bool = True,
) -> pa.Table:
    """Return the rows of one run, or of all, sorted by run and order.

    Rows of several sources or device kinds are returned together only where `sources` or
    `device_kinds` name them. With `include_unflushed`, rows that a killed or running writer has
    in its journal only are there too.

    Raises:
        DatasetError: no dataset, no such run, a damaged or newer file, or rows of several
            sources or device kinds where none was named.

    """
    check_dataset(folder)
    _check_run(folder, run_id)
    table = _read(folder, MEASUREMENTS_FOLDER, run_id, include_unflushed=include_unflushed)
    table = comparable(table, sources=sources, device_kinds=device_kinds)
    return table.sort_by([(name, "ascending") for name in _MEASUREMENT_ORDER])


def runs_with_rows(folder: Path) -> frozenset[str]:
    """Return the ids of the runs that have measurements in Parquet, by their parts' names.

    Raises:
        DatasetError: no dataset.

    """
    check_dataset(folder)
    parts = part_paths(folder / MEASUREMENTS_FOLDER)
    return frozenset(path.stem.rpartition("-")[0] for path in parts)


def read_samples(
    folder: Path,
    *,
    run_id: str | None = None,
    sources: Sequence[str] | None = None,
    device_kinds: Sequence[str] | None = None,
    include_unflushed: bool = True,
) -> pa.Table:
    """Return the raw samples of the rows that `read_measurements` returns, sorted alike.

    Raises:
        DatasetError: as `read_measurements`.

    """
    # In this order: a running writer puts samples on the disk before their measurements.
    rows = read_measurements(
        folder,
        run_id=run_id,
        sources=sources,
        device_kinds=device_kinds,
        include_unflushed=include_unflushed,
    ).select(_ROW)
    table = _read(folder, SAMPLES_FOLDER, run_id, include_unflushed=include_unflushed)
    table = table.join(rows, keys=list(_ROW), join_type="left semi").select(SAMPLES.names)
    return table.cast(SAMPLES).sort_by([(name, "ascending") for name in _SAMPLE_ORDER])


def read_runs(folder: Path) -> tuple[RunRecord, ...]:
    """Return the records of all runs in a folder, sorted by run id.

    Raises:
        DatasetError: no dataset, or a record that is damaged or of a newer schema.

    """
    check_dataset(folder)
    return tuple(read_run(path) for path in run_files(folder))


def comparable(
    table: pa.Table,
    *,
    sources: Sequence[str] | None = None,
    device_kinds: Sequence[str] | None = None,
) -> pa.Table:
    """Return the rows of the sources and device kinds named; None: there must be only one.

    Raises:
        DatasetError: there are several and none was named, or one that was named has no row.

    """
    for column, argument, wanted in (
        ("source", "sources", sources),
        ("device_kind", "device_kinds", device_kinds),
    ):
        found = sorted(pc.unique(table[column]).to_pylist())
        if wanted is None:
            if len(found) > 1:
                raise DatasetError(
                    f"rows must be of one {column}, got {', '.join(found)}",
                    hint=f"Name what may be put together: {argument}={found}, or one of them.",
                )
            continue
        if absent := [name for name in wanted if name not in found]:
            raise DatasetError(
                f"no row has {column} {absent[0]!r}",
                hint=f"There is {', '.join(found) or 'no row at all'}.",
            )
        table = table.filter(pc.is_in(table[column], pa.array(wanted, pa.string())))
    return table


def _read(folder: Path, name: str, run_id: str | None, *, include_unflushed: bool) -> pa.Table:
    schema = MEASUREMENTS if name == MEASUREMENTS_FOLDER else SAMPLES
    # The journals first: what a running writer moves into a part meanwhile is then seen twice,
    # and dropped once, rather than missed.
    journals = _journals(folder, run_id) if include_unflushed else {}
    parts = [read_part(path, schema) for path in part_paths(folder / name, run_id)]
    table = pa.concat_tables([schema.empty_table(), *parts])
    tables = [table]
    for owner, steps in journals.items():
        written = table.filter(pc.equal(table["run_id"], owner))
        keys = set(to_keys(written.group_by(list(KEY_COLUMNS)).aggregate([]).to_pydict()))
        for step in unwritten(steps, keys):
            columns = step.rows if name == MEASUREMENTS_FOLDER else step.samples
            tables.append(to_table(columns, schema))
    return pa.concat_tables(tables)


def _journals(folder: Path, run_id: str | None) -> dict[str, tuple[Step, ...]]:
    """Return the steps in the journals by run id, where there are any."""
    paths = sorted((folder / JOURNAL_FOLDER).glob(f"{run_id or '*'}.jsonl"))
    with readable(folder / JOURNAL_FOLDER):
        found = {path.stem: read_journal(path).steps for path in paths}
    return {owner: steps for owner, steps in found.items() if steps}


def _check_run(folder: Path, run_id: str | None) -> None:
    known = [path.stem.removeprefix("run-") for path in run_files(folder)]
    if run_id is not None and run_id not in known:
        raise DatasetError(
            f"{folder}: has no run {run_id}",
            hint=f"There is {', '.join(known) or 'no run at all'}.",
        )
