"""A sweep told in plain lines, for pipes and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from moeprof.record import Role
from moeprof.report import human

if TYPE_CHECKING:
    from rich.console import Console

    from moeprof.sweep.events import PointFinished, Progress, SweepEnded, SweepStarted


def point_words(event: PointFinished) -> str:
    """Return what was measured and what came out, in one line."""
    workload, outcome = event.workload, event.outcome
    what = (
        f"{workload.model} {event.entry.case.kernel} {workload.weight_dtype} "
        f"B={workload.batch_size} {workload.routing_pattern} "
        f"active={workload.num_active_experts}"
    )
    if event.entry.case.ep_size > 1:
        what += f" {workload.placement} {_ranks(event)}"
    if event.entry.case.hold_celsius is not None:
        what += f" held {human.celsius(event.entry.case.hold_celsius)}"
    if event.entry.role is Role.SENTINEL:
        what = f"sentinel {what}"
    if outcome.latency is None:
        return f"{what}: {outcome.status}: {outcome.detail or 'no detail'}"
    median = outcome.latency.median
    result = f"{human.seconds(median.estimate)} "
    result += human.plus_minus(median.relative_half_width_fraction)
    if outcome.energy and outcome.energy.per_launch:
        result += f" {human.joules(outcome.energy.per_launch.estimate)}"
    detail = f" ({outcome.detail})" if outcome.detail else ""
    return f"{what}: {result} {outcome.status}{detail}"


def _ranks(event: PointFinished) -> str:
    first = f"rank {event.workload.ep_rank}"
    return first if event.num_ranks == 1 else f"{first} and {event.num_ranks - 1} like it"


class PlainLines:
    """One line per phase and per finished point."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = ""
        self._num_done = 0
        self._num_points = 0

    def __enter__(self) -> Self:
        """Say nothing yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the stream open: it is not ours."""

    def started(self, event: SweepStarted) -> None:
        """Say what the sweep is about to do."""
        self._num_done, self._num_points = event.num_finished, event.num_points
        self._say(f"{event.recipe_name} on {event.device.name} ({event.device.kind})")
        if event.num_finished:
            self._say(f"resuming: {event.num_finished} of {event.num_points} points are done")

    def progressed(self, event: Progress) -> None:
        """Say when another phase begins."""
        if event.phase not in {self._phase, "preparing", "measuring"}:
            self._phase = event.phase
            self._say(event.phase)

    def finished(self, event: PointFinished) -> None:
        """Say what came out."""
        if event.entry.role is Role.POINT:
            self._num_done += event.num_ranks
        self._say(f"[{self._num_done}/{self._num_points}] {point_words(event)}")

    def ended(self, event: SweepEnded) -> None:
        """Say how long it took."""
        self._say(f"ended after {human.duration(event.wall_seconds)}")
        if event.lost is not None:
            self._say(f"the device was lost: {event.lost}")

    def _say(self, words: str) -> None:
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)
