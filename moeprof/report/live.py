"""The live panel of a sweep: progress, time left, the running point, and the device's state."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from moeprof.record import Role
from moeprof.report import human
from moeprof.report.lines import point_words

if TYPE_CHECKING:
    from rich.console import Console

    from moeprof.record import DeviceState
    from moeprof.sweep.events import PointFinished, SweepEnded, SweepStarted
    from moeprof.sweep.events import Progress as ProgressEvent

_REFRESH_SECONDS = 0.2
_NUM_RECENT = 6


class LivePanel:
    """A panel that is redrawn in place, with the last finished points under it.

    It redraws only when it is told something, never from a thread of its own, so that it cannot
    fall into a timed sample.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            expand=True,
        )
        self._task = self._bar.add_task("points", total=None, left="")
        self._title = "moeprof sweep"
        self._recent: list[Text] = []
        self._drawn_at = float("-inf")
        self._told: ProgressEvent | None = None

    def __enter__(self) -> Self:
        """Draw nothing yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """Give the terminal back, however the sweep ended."""
        self._live.stop()

    def started(self, event: SweepStarted) -> None:
        """Open the panel."""
        self._title = f"{event.recipe_name} · {event.device.name} ({event.device.kind})"
        self._bar.update(self._task, total=event.num_points, completed=event.num_finished)
        self._live.start()

    def progressed(self, event: ProgressEvent) -> None:
        """Redraw the panel, a few times a second at most."""
        self._told = event = _completed(event, self._told)
        now = time.monotonic()
        if now - self._drawn_at < _REFRESH_SECONDS:
            return
        self._drawn_at = now
        left = f"{human.duration(event.remaining_seconds)} left" if event.remaining_seconds else ""
        self._bar.update(self._task, left=left)
        facts = Table.grid(padding=(0, 2))
        for name, value in _facts(event):
            facts.add_row(Text(name, "dim"), value)
        body = Group(self._bar, facts, *self._recent)
        panel = Panel(body, title=Text(self._title), title_align="left")
        self._live.update(panel, refresh=True)

    def finished(self, event: PointFinished) -> None:
        """Move the bar and keep the point among the last few."""
        if event.entry.role is Role.POINT:
            self._bar.advance(self._task, event.num_ranks)
        style = "" if event.outcome.status == "ok" else "yellow"
        line = Text(point_words(event), style, no_wrap=True, overflow="ellipsis")
        self._recent = [*self._recent, line][-_NUM_RECENT:]

    def ended(self, event: SweepEnded) -> None:
        """Say nothing: the table and the summary do."""


def _completed(event: ProgressEvent, before: ProgressEvent | None) -> ProgressEvent:
    """Return the event with what it leaves out taken from the one before, of the same point."""
    if before is None:
        return event
    same_point = event.entry is before.entry and event.workload is before.workload
    return replace(
        event,
        state=event.state or before.state,
        interval=event.interval or (before.interval if same_point else None),
    )


def _facts(event: ProgressEvent) -> list[tuple[str, str]]:
    phase = event.phase
    if event.done_fraction is not None:
        phase += f" {human.percent(event.done_fraction)}"
    facts = [("now", phase)]
    if (entry := event.entry) is not None and (workload := event.workload) is not None:
        what = (
            f"{workload.model} · {entry.case.kernel} · {workload.weight_dtype} · "
            f"batch {workload.batch_size} · {workload.routing_pattern} · "
            f"{workload.num_active_experts} active"
        )
        facts.append((entry.role.value, what))
    if event.interval is not None:
        width = human.plus_minus(event.interval.relative_half_width_fraction)
        facts.append(("latency", f"{human.seconds(event.interval.estimate)} {width}"))
    if event.state is not None:
        hold = event.entry.case.hold_celsius if event.entry is not None else None
        facts.append(("device", _device_words(event.state, hold)))
    return facts


def _device_words(state: DeviceState, hold_celsius: float | None) -> str:
    words = [
        human.celsius(state.die_celsius) if state.die_celsius is not None else "no thermometer"
    ]
    if hold_celsius is not None:
        words[0] += f" (set {human.celsius(hold_celsius)})"
    words.append(human.quantity(state.sm_clock_hertz, "Hz"))
    words.append(human.watts(state.watts))
    words.extend(sorted(event.value for event in state.clock_events or () if event != "idle"))
    return " · ".join(word for word in words if word != human.ABSENT)
