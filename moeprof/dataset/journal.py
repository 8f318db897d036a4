"""The write-ahead journal: finished steps on the disk before they are in a Parquet part."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from moeprof.dataset import files
from moeprof.dataset.parts import JOURNAL_FOLDER
from moeprof.dataset.schema import (
    MEASUREMENTS,
    SAMPLES,
    SCHEMA_VERSION,
    Columns,
    Key,
    check_version,
    is_in_version,
    to_keys,
    to_table,
)
from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

_TIME = "recorded_at"


@dataclass(frozen=True, slots=True)
class Step:
    """One finished step: the rows of its ranks, their samples, the device's snapshot after it."""

    rows: Columns
    samples: Columns
    snapshot: dict[str, Any] | None

    def keys(self) -> list[Key]:
        """Return the keys of the step's rows."""
        return to_keys(self.rows)


@dataclass(frozen=True, slots=True)
class Contents:
    """A journal as read: its whole steps, and the bytes up to the end of the last of them.

    `snapshot` is that of the last finished step, which may be in a part already.
    """

    steps: tuple[Step, ...]
    snapshot: dict[str, Any] | None
    num_bytes: int
    schema_version: int


def unwritten(steps: Iterable[Step], written: Container[Key]) -> list[Step]:
    """Return the steps that are in no part yet, each once."""
    found: dict[Key, Step] = {}
    for step in steps:
        keys = step.keys()
        if not any(key in written or key in found for key in keys):
            found.update(dict.fromkeys(keys, step))
    return list({id(step): step for step in found.values()}.values())


def journal_path(folder: Path, run_id: str) -> Path:
    """Return where a run's journal is."""
    return folder / JOURNAL_FOLDER / f"{run_id}.jsonl"


def read_journal(path: Path) -> Contents:
    """Read a journal; a torn last line was never reported finished, and is left out.

    Raises:
        DatasetError: any other line is damaged, or the journal is of a newer schema.

    """
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    if not lines:
        raise _damaged(path, 1)
    header = _decoded(lines[0])
    if header is None or "snapshot" not in header:
        raise _damaged(path, 1)
    version = check_version(header.get("schema_version"), path)
    steps: list[Step] = []
    num_bytes = len(lines[0])
    for number, line in enumerate(lines[1:], start=2):
        step = _step(_decoded(line), version)
        if step is None:
            if number < len(lines):
                raise _damaged(path, number)
            break
        steps.append(step)
        num_bytes += len(line)
    snapshot = steps[-1].snapshot if steps else header["snapshot"]
    return Contents(tuple(steps), snapshot, num_bytes, version)


class Journal:
    """A journal to append to; its first line holds the snapshot of the last step flushed.

    It keeps no file open: after an interrupted `rewrite`, an open one could be the replaced one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._num_bytes: int | None = None  # of the whole lines; None: not known
        self._torn = True  # there may be bytes behind the whole lines

    def load(self) -> Contents:
        """Return the contents, making an empty journal where there is none.

        Raises:
            DatasetError: the journal is damaged or of a newer schema.
            OSError: it cannot be made.

        """
        if not self._path.exists():
            self.rewrite((), None)
        contents = read_journal(self._path)
        if contents.schema_version < SCHEMA_VERSION:
            # What is appended has the columns of today, and the first line speaks for all.
            self.rewrite(contents.steps, contents.snapshot)
            contents = read_journal(self._path)
        return contents

    def append(self, step: Step) -> None:
        """Return once a step is on the disk; after an OSError it is not part of the journal."""
        line = _line(step)
        if self._num_bytes is None:
            self._num_bytes = read_journal(self._path).num_bytes
            self._torn = True
        descriptor = files.open_for_appending(self._path)
        try:
            if self._torn:
                files.cut(descriptor, self._num_bytes)
            self._torn = True
            files.write_all(descriptor, line)
            files.sync(descriptor)
        finally:
            files.close(descriptor)
        self._num_bytes += len(line)
        self._torn = False

    def rewrite(self, steps: Sequence[Step], snapshot: dict[str, Any] | None) -> None:
        """Replace the contents at once. Raises OSError."""
        data = b"".join((_header(snapshot), *map(_line, steps)))
        self._num_bytes = None
        files.replace_file(self._path, data)
        self._num_bytes = len(data)
        self._torn = False


def _line(step: Step) -> bytes:
    return _encoded({"rows": step.rows, "samples": step.samples, "snapshot": step.snapshot})


def _header(snapshot: dict[str, Any] | None) -> bytes:
    return _encoded({"schema_version": SCHEMA_VERSION, "snapshot": snapshot})


def _encoded(document: dict[str, Any]) -> bytes:
    # repr, which json uses for floats, reads back as the same float.
    return json.dumps(document, separators=(",", ":"), default=datetime.isoformat).encode() + b"\n"


def _decoded(line: bytes) -> dict[str, Any] | None:
    """Return the document of a line, or None where the line is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _step(document: dict[str, Any] | None, version: int) -> Step | None:
    if document is None or document.keys() != {"rows", "samples", "snapshot"}:
        return None
    rows, samples = document["rows"], document["samples"]
    try:
        for columns, schema in ((rows, MEASUREMENTS), (samples, SAMPLES)):
            younger = [name for name in schema.names if not is_in_version(name, version)]
            columns.update({name: [None] * len(columns["run_id"]) for name in younger})
        rows[_TIME] = [datetime.fromisoformat(text) for text in rows[_TIME]]
        to_table(rows, MEASUREMENTS)
        to_table(samples, SAMPLES)
    except (KeyError, TypeError, ValueError, AttributeError, DatasetError):
        return None
    return Step(rows, samples, document["snapshot"])


def _damaged(path: Path, number: int) -> DatasetError:
    return DatasetError(
        f"{path}: line {number} is damaged",
        hint="Move the journal away; the same sweep command then measures its points again and "
        "keeps all others.",
    )
