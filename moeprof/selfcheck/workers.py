"""Trials spread over the cores of this machine, with the same outcomes however they are spread."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context
from typing import TYPE_CHECKING, Any, Protocol

from moeprof.processes import begin_worker, single_threaded
from moeprof.selfcheck.check import Check, random_of_trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from moeprof.hardware.gpu import GPU

_CHUNKS_PER_CHECK = 40

Chunk = tuple[Check, range]


class AuditProgress(Protocol):
    """Hears how far the trials of all checks together have come."""

    def __call__(self, check: str, num_done: int, num_trials: int) -> None:
        """Take the check that a chunk was finished of, and the trials of all checks."""


def run_trials(
    sizes: Mapping[Check, int],
    gpu: GPU,
    *,
    seed: int,
    num_workers: int,
    on_progress: AuditProgress,
) -> dict[Check, list[Any]]:
    """Return the outcomes of `sizes[check]` trials of every check, in the order of their index.

    With one worker everything runs in this process.
    """
    chunks = [
        (check, range(first, min(first + length, num_trials)))
        for check, num_trials in sizes.items()
        for length in [max(1, -(-num_trials // _CHUNKS_PER_CHECK))]
        for first in range(0, num_trials, length)
    ]
    found: dict[Check, dict[int, list[Any]]] = {check: {} for check in sizes}
    num_done, num_trials = 0, sum(sizes.values())
    run = _here if num_workers == 1 else _in_processes
    for (check, indices), outcomes in run(chunks, gpu, seed, num_workers):
        found[check][indices.start] = outcomes
        num_done += len(indices)
        on_progress(check.name, num_done, num_trials)
    return {
        check: [each for start in sorted(parts) for each in parts[start]]
        for check, parts in found.items()
    }


def run_chunk(chunk: Chunk, gpu: GPU, seed: int) -> list[Any]:
    """Return the outcomes of one chunk's trials."""
    check, indices = chunk
    return [check.trial(gpu, random_of_trial(seed, check.name, index)) for index in indices]


def _here(
    chunks: Sequence[Chunk], gpu: GPU, seed: int, num_workers: int
) -> Iterator[tuple[Chunk, list[Any]]]:
    assert num_workers == 1
    for chunk in chunks:
        yield chunk, run_chunk(chunk, gpu, seed)


def _in_processes(
    chunks: Sequence[Chunk], gpu: GPU, seed: int, num_workers: int
) -> Iterator[tuple[Chunk, list[Any]]]:
    # A fork would copy locks that the threads of Arrow and torch may hold.
    with (
        single_threaded(),
        ProcessPoolExecutor(
            num_workers, mp_context=get_context("spawn"), initializer=begin_worker
        ) as pool,
    ):
        running = {pool.submit(run_chunk, chunk, gpu, seed): chunk for chunk in chunks}
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
