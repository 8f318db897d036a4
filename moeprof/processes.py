"""How worker processes live: one thread each, deaf to Ctrl-C, and no longer than their parent."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from multiprocessing import parent_process
from threading import Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# One thread for each worker: several would fight for the cores that the workers already fill.
_THREAD_LIMITS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def begin_worker() -> None:
    """Make the process that calls this a worker of the one that started it."""
    # Ctrl-C reaches every process of a terminal; this one is told by its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let processes that start inside use one thread each."""
    before = {name: os.environ.get(name) for name in _THREAD_LIMITS}
    os.environ.update(dict.fromkeys(_THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _end_with_parent() -> None:
    """Wait for the process that started this one to end, however it does, and end with it."""
    parent = parent_process()
    assert parent is not None, "a worker has been started by somebody"
    parent.join()
    os._exit(1)
