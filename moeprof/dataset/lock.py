"""A lock on one run, which the kernel lets go of when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from moeprof.dataset.parts import JOURNAL_FOLDER
from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path


def lock_path(folder: Path, run_id: str) -> Path:
    """Return where a run's lock is."""
    return folder / JOURNAL_FOLDER / f"{run_id}.lock"


def acquire(path: Path) -> int:
    """Lock the file at `path` and return the descriptor that holds the lock until it is closed.

    The file stays behind: removing it would let two processes lock one name.

    Raises:
        DatasetError: another process holds the lock.
        OSError: the file cannot be made.

    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise DatasetError(
            f"{path.parent.parent}: run {path.stem} is being written by another process",
            hint="Wait for it to end, or give another folder with --out.",
        ) from error
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
