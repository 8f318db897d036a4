"""The writing of one run into a dataset folder, safe against a kill at any moment."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from moeprof.dataset import files, lock
from moeprof.dataset.folder import FOLDERS, check_writable_as_dataset, unwritable, writing
from moeprof.dataset.journal import Journal, Step, journal_path, unwritten
from moeprof.dataset.lost import LostPoints
from moeprof.dataset.parts import MEASUREMENTS_FOLDER, SAMPLES_FOLDER, part_path, write_part
from moeprof.dataset.recovery import recover
from moeprof.dataset.run import RunRecord, read_run, run_path, to_json
from moeprof.dataset.schema import MEASUREMENTS, SAMPLES, Key, Row, joined, to_columns, to_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType


def open_run(
    folder: Path,
    run: RunRecord,
    *,
    flush_points: int = 256,
    flush_seconds: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
) -> RunWriter:
    """Open a run for writing: a new one, or the same one again after it ended or was killed.

    A run that is there already keeps its record. Finished rows go into a Parquet part every
    `flush_points` rows or `flush_seconds` seconds of `clock`, and until then into the journal.

    Raises:
        DatasetError: the folder is a file, holds something else, or cannot be written; another
            process writes the same run; a file is damaged or of a newer schema.

    """
    check_writable_as_dataset(folder)
    with writing(folder, "what was finished before is safe"):
        for name in FOLDERS:
            files.make_folder(folder / name)
        held = lock.acquire(lock.lock_path(folder, run.run_id))
        try:
            return RunWriter(folder, run, held, (flush_points, flush_seconds), clock)
        except BaseException:
            files.close(held)
            raise


class RunWriter:
    """One run open for writing; `open_run` makes it, `close` or leaving `with` ends it."""

    def __init__(
        self,
        folder: Path,
        run: RunRecord,
        held: int,
        flush: tuple[int, float],
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        for place in (folder, *(folder / name for name in FOLDERS)):
            files.remove_temporaries(place, run.run_id)
        path = run_path(folder, run.run_id)
        if not path.exists():
            files.replace_file(path, to_json(run))
        self._run = read_run(path)
        self._lost = LostPoints(self._run.notes)
        self._journal = Journal(journal_path(folder, run.run_id))
        contents = self._journal.load()
        written = recover(folder, run.run_id)
        self._steps = unwritten(contents.steps, written.keys)
        if len(self._steps) < len(contents.steps):
            self._journal.rewrite(self._steps, contents.snapshot)
        self._finished = set(written.keys).union(*(step.keys() for step in self._steps))
        self._snapshot = contents.snapshot
        self._number: int | None = written.next_number  # None: a flush was interrupted
        self._flush_points, self._flush_seconds = flush
        self._clock = clock
        self._flushed_at = clock()
        self._failed = False
        self._held: int | None = held

    @property
    def run(self) -> RunRecord:
        """The run's record as it is on the disk."""
        return self._run

    @property
    def finished(self) -> set[Key]:
        """The (order_index, point_id, ep_rank) of every row that no kill can lose any more."""
        return self._finished

    @property
    def last_snapshot(self) -> dict[str, Any] | None:
        """The device's snapshot after the last finished step; None: it gave none."""
        return self._snapshot

    def add(
        self, rows: Sequence[Row], samples: Sequence[Row], snapshot: dict[str, Any] | None
    ) -> None:
        """Record one measured step, all ranks of it; on return it is safe against any kill.

        A step with a `device_lost` row is not finished: closing the run names it in the notes.

        Raises:
            DatasetError: a row does not fit the schema, or the disk is full or unwritable.

        """
        step = Step(to_columns(rows, MEASUREMENTS), to_columns(samples, SAMPLES), snapshot)
        if self._lost.note(step.rows):
            return
        keys = step.keys()
        assert self._finished.isdisjoint(keys), f"measured twice: {keys}"
        # What Arrow cannot hold must not enter the journal, where every later run would meet it.
        to_table(step.rows, MEASUREMENTS)
        to_table(step.samples, SAMPLES)
        with self._safe():
            self._journal.append(step)
            self._steps.append(step)
            self._finished.update(keys)
            self._snapshot = snapshot
            due = self._clock() - self._flushed_at >= self._flush_seconds
            if due or sum(len(each.keys()) for each in self._steps) >= self._flush_points:
                self._flush()

    def annotate(self, **notes: Any) -> None:
        """Add to the notes of the run's record, or replace those of the same name.

        Raises:
            DatasetError: the disk is full or unwritable; the old record is intact.

        """
        run = replace(self._run, notes={**self._run.notes, **notes})
        with self._safe():
            files.replace_file(run_path(self._folder, run.run_id), to_json(run))
        self._run = run

    def close(self) -> None:
        """Put what is finished into Parquet, and let the run go; a second call does nothing.

        Raises:
            DatasetError: the disk is full or unwritable; the journal holds what is finished.

        """
        if self._held is None:
            return
        try:
            if not self._failed:  # a full disk is reported once
                with self._safe():
                    self._flush()
                if (notes := self._lost.notes(self._finished)) is not None:
                    self.annotate(**notes)
        finally:
            held, self._held = self._held, None
            files.close(held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _flush(self) -> None:
        """Turn the journal into one part: samples, then measurements, then the journal emptied."""
        run_id, number = self._run.run_id, self._number
        if number is None:
            written = recover(self._folder, run_id)
            self._steps = unwritten(self._steps, written.keys)
            number = written.next_number
        self._number = None
        if self._steps:
            samples = to_table(joined([step.samples for step in self._steps]), SAMPLES)
            rows = to_table(joined([step.rows for step in self._steps]), MEASUREMENTS)
            write_part(part_path(self._folder / SAMPLES_FOLDER, run_id, number), samples)
            write_part(part_path(self._folder / MEASUREMENTS_FOLDER, run_id, number), rows)
            self._journal.rewrite((), self._snapshot)
            number += 1
        self._steps = []
        self._flushed_at = self._clock()
        self._number = number

    @contextmanager
    def _safe(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            safe = f"{len(self._finished)} finished points are safe"
            raise unwritable(self._folder, error, safe) from error
