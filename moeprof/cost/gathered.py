"""The rows of dataset folders, brought together for a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moeprof.analysis.drift import DRIFT_CORRECTED, drift_corrected
from moeprof.cost.points import observed_from_table, points_from_table, usable
from moeprof.cost.provenance import dataset_words
from moeprof.dataset.parts import MEASUREMENTS_FOLDER, part_paths, read_part
from moeprof.dataset.read import read_measurements, read_runs
from moeprof.dataset.schema import MEASUREMENTS
from moeprof.errors import DatasetError, FitError
from moeprof.record import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from moeprof.cost.points import Observed, Points
    from moeprof.dataset.run import RunRecord

_KINDS: Final = pa.schema([MEASUREMENTS.field("device_kind")])
_LATENCIES: Final = ("latency_seconds", "latency_seconds_ci_low", "latency_seconds_ci_high")


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """The rows that a cost can be fitted to, [num_points], as a table and as arrays.

    `sources` are the kinds of rows, `datasets` say in words where they come from. `num_left_out`
    counts the rows that could not be used, by status; `num_drift_corrected` those whose latency
    was divided by the drift that their run's sentinels show.
    """

    table: pa.Table
    points: Points
    observed: Observed
    sources: tuple[str, ...]
    datasets: tuple[str, ...]
    num_left_out: Mapping[str, int]
    num_drift_corrected: int


def gather(folders: Sequence[Path], sources: Sequence[str] = ()) -> Gathered:
    """Return the usable rows of all folders; GPUs may differ, as a model tells them apart.

    `sources` names the kinds of rows to take (measured, simulated, imported); without it all rows
    must be of one.

    Raises:
        DatasetError: a folder is no dataset, is damaged, holds no row or is named twice, or the
            rows are of several sources and none was named.
        FitError: there are rows, and none has a latency of a good status.

    """
    _check_distinct(folders)
    runs = [each for folder in folders for each in _runs(folder)]
    whole = pa.concat_tables([MEASUREMENTS.empty_table(), *(table for _, table in runs)])
    found = _one_source(sorted(pc.unique(whole["source"]).to_pylist()), sources)
    taken = [(run, table.filter(pc.is_in(table["source"], pa.array(found)))) for run, table in runs]
    taken = [(run, table) for run, table in taken if table.num_rows]
    corrected = [_without_drift(table) for _, table in taken]
    kept = usable(pa.concat_tables([table for table, _ in corrected]))
    if not len(kept.rows):
        listed = ", ".join(f"{number} {status}" for status, number in kept.num_left_out.items())
        raise FitError(
            f"none of the rows can be fitted to: {listed}",
            hint="`moeprof report DATASET` shows what became of every point.",
        )
    return Gathered(
        table=kept.table,
        points=points_from_table(kept.table),
        observed=observed_from_table(kept.table),
        sources=tuple(found),
        datasets=tuple(dataset_words(run, table) for run, table in taken),
        num_left_out=kept.num_left_out,
        num_drift_corrected=sum(number for _, number in corrected),
    )


def _check_distinct(folders: Sequence[Path]) -> None:
    seen = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise DatasetError(
                f"{folder}: is named twice", hint="Name every dataset once: each row counts."
            )
        seen.add(folder.resolve())


def _runs(folder: Path) -> Iterator[tuple[RunRecord, pa.Table]]:
    """Each run of a folder with its rows, which may be of several device kinds."""
    empty = True
    for run in read_runs(folder):
        paths = part_paths(folder / MEASUREMENTS_FOLDER, run.run_id)
        kinds = {name for path in paths for name in _kinds(path)}
        table = read_measurements(folder, run_id=run.run_id, device_kinds=sorted(kinds) or None)
        empty = empty and not table.num_rows
        yield run, table
    if empty:
        raise DatasetError(
            f"{folder}: holds no row",
            hint="The sweep that was begun there goes on with the same `moeprof sweep` command.",
        )


def _kinds(path: Path) -> list[str]:
    found: list[str] = pc.unique(read_part(path, _KINDS)["device_kind"]).to_pylist()
    return found


def _one_source(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    if absent := [name for name in wanted if name not in found]:
        raise DatasetError(f"no row has source {absent[0]!r}", hint=f"There is {', '.join(found)}.")
    if not wanted and len(found) > 1:
        named = " ".join(f"--source {name}" for name in found)
        raise DatasetError(
            f"rows must be of one source, got {', '.join(found)}",
            hint=f"Name what may be put together: {named}, or one of them.",
        )
    return sorted(wanted) if wanted else list(found)


def _without_drift(table: pa.Table) -> tuple[pa.Table, int]:
    """Return the rows at the speed of their run's mean, and how many could be so corrected."""
    if not pc.any(pc.equal(table["role"], Role.SENTINEL.value)).as_py():
        return table, 0
    corrected = drift_corrected(table)
    for name, column in zip(_LATENCIES, DRIFT_CORRECTED, strict=True):
        values = pc.coalesce(corrected[column.name], table[name])
        table = table.set_column(table.column_names.index(name), MEASUREMENTS.field(name), values)
    valid = corrected[DRIFT_CORRECTED[0].name].is_valid()
    return table, int(np.asarray(valid).sum())
