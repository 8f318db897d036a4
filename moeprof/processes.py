"""How worker processes live: one thread each, deaf to Ctrl-C, and no longer than their parent."""

from __future__ import annotations

import os
import signal
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_Task = TypeVar("_Task")
_Found = TypeVar("_Found")

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


def in_processes(
    run: Callable[[_Task], _Found], tasks: Sequence[_Task], num_workers: int
) -> Iterator[tuple[_Task, _Found]]:
    """Yield what `run` finds of every task, as they end, in worker processes of one thread each.

    What a task raises is raised here, and then the others are ended at once.
    """
    # A fork would copy locks that the threads of Arrow and torch may hold.
    with (
        single_threaded(),
        ProcessPoolExecutor(
            num_workers, mp_context=get_context("spawn"), initializer=begin_worker
        ) as pool,
    ):
        running = {pool.submit(run, task): task for task in tasks}
        try:
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        except BaseException:
            # What runs would go on for seconds, and nobody waits for it any more.
            for child in active_children():
                child.terminate()
            raise


def _end_with_parent() -> None:
    """Wait for the process that started this one to end, however it does, and end with it."""
    parent = parent_process()
    assert parent is not None, "a worker has been started by somebody"
    parent.join()
    os._exit(1)
