"""Trials spread over the cores of this machine, with the same outcomes however they are spread."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from moeprof.processes import in_processes
from moeprof.selfcheck.check import Check, random_of_trial

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    run = partial(run_chunk, gpu=gpu, seed=seed)
    ended = (
        ((chunk, run(chunk)) for chunk in chunks)
        if num_workers == 1
        else in_processes(run, chunks, num_workers)
    )
    for (check, indices), outcomes in ended:
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
