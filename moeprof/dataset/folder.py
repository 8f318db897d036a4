"""Whether a folder is a dataset, may become one, or is something else that must not be touched."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from moeprof.dataset.parts import JOURNAL_FOLDER, MEASUREMENTS_FOLDER, SAMPLES_FOLDER
from moeprof.dataset.run import read_run
from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDERS: Final = (MEASUREMENTS_FOLDER, SAMPLES_FOLDER, JOURNAL_FOLDER)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def run_files(folder: Path) -> list[Path]:
    """Return the records of all runs in a dataset folder, sorted by name."""
    return sorted(folder.glob("run-*.json"))


def check_writable_as_dataset(folder: Path) -> None:
    """Refuse a folder that a run must not be written into; nothing is touched.

    Raises:
        DatasetError: it is a file, holds something else than a dataset, or one of a newer schema.

    """
    with readable(folder):
        if folder.exists() and not folder.is_dir():
            raise DatasetError(
                f"{folder}: must be a folder, and is a file",
                hint="Give another --out.",
            )
        if folder.exists() and not _is_dataset(folder):
            raise DatasetError(
                f"{folder}: holds files, and is no dataset",
                hint="Give --out a new or empty folder, or one that moeprof wrote.",
            )
    for path in run_files(folder):
        read_run(path)


def check_dataset(folder: Path) -> None:
    """Refuse to read what is no dataset.

    Raises:
        DatasetError: there is no such folder, or nothing of a dataset in it.

    """
    if not (folder / MEASUREMENTS_FOLDER).is_dir():
        found = "is no dataset" if folder.exists() else "does not exist"
        raise DatasetError(
            f"{folder}: {found}",
            hint=f"A dataset is a folder with {MEASUREMENTS_FOLDER}/ in it, made by "
            "`moeprof sweep` or `moeprof import`.",
        )


@contextmanager
def readable(where: Path) -> Iterator[None]:
    """Turn an OSError of reading into a DatasetError that names `where`."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{error.filename or where}: cannot be read: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error


@contextmanager
def writing(folder: Path, safe: str) -> Iterator[None]:
    """Turn an OSError of writing into the DatasetError that `unwritable` makes of it."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error, safe) from error


def unwritable(folder: Path, error: OSError, safe: str) -> DatasetError:
    """Return the error that says what could not be written, what is `safe`, and how to go on."""
    full = error.errno in _FULL
    what = "the disk is full" if full else f"cannot be written: {error.strerror or error}"
    remedy = "Free some space" if full else "Mend that, or give another --out"
    return DatasetError(
        f"{error.filename or folder}: {what}; {safe}",
        hint=f"{remedy}, and run the same command again: it goes on where it stopped.",
    )


def _is_dataset(folder: Path) -> bool:
    """Whether there is a run, or no more than a killed writer leaves behind before the first."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return bool(run_files(folder)) or names <= set(FOLDERS)
