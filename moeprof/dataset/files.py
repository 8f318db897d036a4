"""The system calls that write a dataset, ordered so that a kill between any two loses nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TEMPORARY = ".tmp"  # behind the suffix, so that no reader's *.parquet matches


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` such that whoever opens it, at any time, sees the old or the new whole.

    Raises OSError, with nothing changed and nothing left behind.
    """
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)  # noqa: PTH105 - every system call is in plain sight here
    except OSError:
        remove(temporary)
        raise
    sync_folder(path.parent)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, however many calls that takes. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def open_for_appending(path: Path) -> int:
    """Return a descriptor of an existing file that writes at its end. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND)


def cut(descriptor: int, num_bytes: int) -> None:
    """Shorten an open file to `num_bytes`, durably. Raises OSError."""
    os.ftruncate(descriptor, num_bytes)
    os.fsync(descriptor)


def sync(descriptor: int) -> None:
    """Return once everything written to an open file is on the disk. Raises OSError."""
    os.fsync(descriptor)


def close(descriptor: int) -> None:
    """Close a descriptor. Raises OSError."""
    os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, durably; one that exists is left alone.

    Raises OSError.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    os.mkdir(path)  # noqa: PTH102
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file; one that is not there is no fault. Raises OSError."""
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return


def remove_temporaries(folder: Path, run_id: str) -> None:
    """Remove what a killed writer of this run left in `folder`. Raises OSError."""
    for path in sorted(folder.glob(f".*{run_id}*{_TEMPORARY}")):
        remove(path)


def sync_folder(path: Path) -> None:
    """Return once a folder's names are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
