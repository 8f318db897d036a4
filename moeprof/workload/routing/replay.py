"""Recorded expert ids read from a NumPy, CSV or Parquet file."""

from __future__ import annotations

import hashlib
import importlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.errors import WorkloadError
from moeprof.workload.routing.pattern import Pattern, Replay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_EXPECTED: Final = "It must hold an array [num_tokens, top_k] of whole numbers."


def recorded_ids(pattern: Replay) -> NDArray[np.int64]:
    """Return the recording, [num_recorded_tokens, top_k], read-only and not empty.

    A CSV file may have a header; the names of its columns, and of Parquet columns, do not matter.

    Raises WorkloadError: the file is missing, of another type, or holds something else.
    """
    modified_ns, num_bytes = _stamp(pattern.file)
    return _read(pattern.file, modified_ns, num_bytes)


def content_digest(pattern: Pattern) -> str | None:
    """Return the SHA-256 of the replay file in hexadecimal; None for patterns without a file.

    Whoever hashes a workload's identity must add it: the text of a replay names only the path.

    Raises WorkloadError: the file is missing or unreadable.
    """
    if not isinstance(pattern, Replay):
        return None
    try:
        with pattern.file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(pattern.file, error) from error


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    return status.st_mtime_ns, status.st_size


# A sweep draws from one recording thousands of times; time and size tell when it has changed.
@lru_cache(maxsize=4)
def _read(file: Path, _modified_ns: int, _num_bytes: int) -> NDArray[np.int64]:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        message = f"replay file {file}: must end in {', '.join(_READERS)}, got {file.suffix!r}"
        raise WorkloadError(message, hint="Convert the recording to one of these.")
    try:
        array = reader(file)
    except OSError as error:
        raise _unreadable(file, error) from error
    except ValueError as error:  # pyarrow's own errors are ValueErrors too
        message = f"replay file {file}: not a readable {file.suffix} file of expert ids: {error}"
        raise WorkloadError(message, hint=_EXPECTED) from error
    if array.ndim != 2 or array.dtype.kind not in "iu" or 0 in array.shape:  # noqa: PLR2004
        message = f"replay file {file}: got shape {list(array.shape)} of {array.dtype}"
        raise WorkloadError(message, hint=_EXPECTED)
    ids = array.astype(np.int64)
    ids.setflags(write=False)
    return ids


def _read_npy(file: Path) -> NDArray[np.generic]:
    loaded: NDArray[np.generic] = np.lib.format.open_memmap(file, mode="r")
    return loaded


def _read_csv(file: Path) -> NDArray[np.generic]:
    with file.open(encoding="utf-8-sig") as lines:
        first = lines.readline()
    if not first.strip():
        message = "it is empty"
        raise ValueError(message)
    fields = [field.strip() for field in first.split(",")]
    has_header = not any(field.removeprefix("-").isdecimal() for field in fields)
    with file.open(encoding="utf-8-sig") as lines:
        rows = [line for line in lines if line.strip()][int(has_header) :]
    if not rows:
        message = "it has a header and no tokens"
        raise ValueError(message)
    return np.loadtxt(rows, dtype=np.int64, delimiter=",", ndmin=2, comments=None)


def _read_parquet(file: Path) -> NDArray[np.generic]:
    # pyarrow takes long to load, and only this kind of file needs it.
    table = importlib.import_module("pyarrow.parquet").read_table(file)
    if table.num_columns == 0:
        message = "it has no columns"
        raise ValueError(message)
    for column, name in zip(table.columns, table.column_names, strict=True):
        if column.null_count:
            message = f"column {name!r} has {column.null_count} nulls"
            raise ValueError(message)
    return np.column_stack([column.to_numpy() for column in table.columns])


def _unreadable(file: Path, error: OSError) -> WorkloadError:
    message = f"replay file {file}: cannot be read: {error.strerror or error}"
    return WorkloadError(message, hint="Check the path and its permissions.")


_READERS: Final[dict[str, Callable[[Path], NDArray[np.generic]]]] = {
    ".npy": _read_npy,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
