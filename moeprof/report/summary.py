"""What a sweep came to, in a few lines, with the command to type next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from moeprof.record import Status
from moeprof.report import human

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moeprof.sweep.events import SweepEnded


def summary_lines(
    ended: SweepEnded,
    *,
    recipe: str,
    selector: str,
    seed: int | None,
    options: Sequence[str] = (),
) -> Iterator[str]:
    """Yield counts, statuses, drift, overhead and the next command.

    `options` are what else was on the command line, for the command that goes on.
    """
    counts = f"{ended.num_measured} points measured"
    if ended.num_skipped:
        counts += f", {ended.num_skipped} done before"
    remaining = ended.num_points - ended.num_measured - ended.num_skipped
    stopped = ended.interrupted or ended.lost is not None
    if remaining:
        # A sweep that chooses its points ends by itself before all are measured.
        counts += f", {remaining} {'not needed' if options and not stopped else 'to go'}"
    statuses = ", ".join(f"{number} {status}" for status, number in ended.statuses.items())
    yield f"{counts} ({statuses or 'none'}) in {human.duration(ended.wall_seconds)}"
    if ended.statuses.get(Status.IMPRECISE, 0) * 2 > sum(ended.statuses.values()):
        yield "most intervals are too wide: is something else running on this device? Stop it, or"
        yield "give points more time with stopping.seconds_max, and sweep into another folder"
    if ended.sentinel_spread_fraction is None:
        yield "drift is not known: no sentinel was measured twice"
    else:
        drift = human.percent(ended.sentinel_drift_fraction, digits=1)
        spread = human.percent(ended.sentinel_spread_fraction, digits=1)
        yield f"the sentinel, measured again and again: drift {drift}, spread {spread}"
    if ended.overhead_fraction is not None:
        spent = ", ".join(
            f"{purpose} {human.duration(seconds)}"
            for purpose, seconds in sorted(ended.spent_seconds.items())
        )
        overhead = human.percent(ended.overhead_fraction, digits=1)
        yield f"the sweep's own overhead: {overhead} of its time ({spent})"
    if ended.lost is not None:
        yield f"stopped: {ended.lost}"
    if stopped:
        words = ["moeprof", "sweep", recipe, "--out", str(ended.out), "--device", selector]
        if seed is not None:
            words += ["--seed", str(seed)]
        words += options
        yield f"to go on from here: {shlex.join(words)}"
    else:
        yield f"next: {shlex.join(['moeprof', 'report', str(ended.out)])}"
