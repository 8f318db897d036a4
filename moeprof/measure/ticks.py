"""The moments at which an energy counter moved, as seen by reading it again and again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.96
_BATCHES_MIN = 4
_SHARP_RATIO = 3.0
_BATCHES_MAX = 10


@dataclass(frozen=True, slots=True)
class Tick:
    """A step of the counter: its joules, and when it came, give or take `error_seconds`.

    Between the readings around it the launches went from `num_launches_before` to `_after`.
    """

    joules: float
    at_seconds: float
    error_seconds: float
    num_launches_before: int
    num_launches_after: int

    @property
    def num_launches(self) -> float:
        """Launches made by then, with half of those that ran while it came."""
        return (self.num_launches_before + self.num_launches_after) / 2


@dataclass(slots=True)
class Segment:
    """Ticks of a counter that was not reset between them; `start_seconds`: of the load, or rest."""

    start_seconds: float
    ticks: list[Tick] = field(default_factory=list)

    def after(self, lead_in_seconds: float) -> list[Tick]:
        """Return the ticks that show nothing of what was before the start."""
        first_seconds = self.start_seconds + lead_in_seconds
        later = [t for t in self.ticks if t.at_seconds - t.error_seconds > first_seconds]
        # Ticks that were not awaited are known badly: they may stand inside, not at the ends.
        limit_seconds = _SHARP_RATIO * min((t.error_seconds for t in later), default=0.0)
        sharp = [index for index, t in enumerate(later) if t.error_seconds <= limit_seconds]
        return later[sharp[0] : sharp[-1] + 1] if sharp else []


@dataclass(slots=True)
class TickWatch:
    """Keeps the ticks of a counter, from readings of it, in unbroken `segments`."""

    segments: list[Segment] = field(default_factory=list)
    num_resets: int = 0
    _joules: float | None = None
    _read_seconds: float = 0.0
    _num_launches: int = 0
    _read_launches: int = 0

    def begin(self, start_seconds: float) -> None:
        """Start a new segment: what happens until its first tick is not counted."""
        self.segments.append(Segment(start_seconds))
        self._joules = None
        self._num_launches = self._read_launches = 0

    def note(self, at_seconds: float, joules: float | None, num_launches: int = 0) -> None:
        """Note a reading after `num_launches` more launches; a failed one is passed over.

        A counter that goes back has been reset: what went before still counts, and a new segment
        of the same load begins.
        """
        self._num_launches += num_launches
        if joules is None or not math.isfinite(joules):
            return
        segment = self.segments[-1]
        if self._joules is not None and joules < self._joules:
            self.num_resets += 1
            self.begin(segment.start_seconds)
        elif self._joules is not None and joules > self._joules:
            half = (at_seconds - self._read_seconds) / 2
            launches = (self._read_launches, self._num_launches)
            segment.ticks.append(Tick(joules, at_seconds - half, half, *launches))
        self._joules, self._read_seconds = joules, at_seconds
        self._read_launches = self._num_launches

    @property
    def ticks(self) -> list[Tick]:
        """The ticks of the present segment."""
        return self.segments[-1].ticks

    def after(self, lead_in_seconds: float) -> list[list[Tick]]:
        """Return the ticks of each segment that show nothing of what was before it."""
        return [segment.after(lead_in_seconds) for segment in self.segments]

    def seconds(self) -> float:
        """Return the seconds between the first and last ticks of all segments."""
        ends = [segment.ticks for segment in self.segments if segment.ticks]
        return sum(ticks[-1].at_seconds - ticks[0].at_seconds for ticks in ends)


@dataclass(frozen=True, slots=True)
class Power:
    """Energy over all segments, with relative 95 % half-widths of the power.

    `edge_fraction` comes from not knowing exactly when the ticks came, `spread_fraction` from how
    unevenly power was drawn. `launch_joules` is None where nothing was launched.
    """

    joules: float
    seconds: float
    launch_joules: float | None
    edge_fraction: float
    spread_fraction: float

    @property
    def half_width_fraction(self) -> float:
        """Both causes together."""
        return math.hypot(self.edge_fraction, self.spread_fraction)


def power_between(segments: list[list[Tick]]) -> Power | None:
    """Return the power between the first and last ticks of the segments; None without two ticks.

    A tick is taken to come anywhere between the two polls around it, so its variance is a third of
    `error_seconds` squared; ticks inside a segment cancel.
    """
    ends = [(segment[0], segment[-1]) for segment in segments if len(segment) > 1]
    seconds = sum(last.at_seconds - first.at_seconds for first, last in ends)
    if seconds <= 0:
        return None
    joules = sum(last.joules - first.joules for first, last in ends)
    num_launches = sum(last.num_launches - first.num_launches for first, last in ends)
    variance = sum((a.error_seconds**2 + b.error_seconds**2) / 3 for a, b in ends)
    return Power(
        joules=joules,
        seconds=seconds,
        launch_joules=joules / num_launches if num_launches else None,
        edge_fraction=NORMAL_QUANTILE * math.sqrt(variance) / seconds,
        spread_fraction=_spread_fraction(segments, joules / seconds),
    )


def _spread_fraction(segments: list[list[Tick]], watts: float) -> float:
    """Return the half-width that uneven power causes, from batches of neighbouring ticks."""
    steps = [step for segment in segments for step in pairwise(segment)]
    num_batches = min(_BATCHES_MAX, len(steps) // 2)
    if num_batches < _BATCHES_MIN or watts <= 0:
        return 0.0
    powers, edge_variances = [], []
    for batch in np.array_split(np.arange(len(steps)), num_batches):
        inside = [steps[int(index)] for index in batch]
        seconds = sum(b.at_seconds - a.at_seconds for a, b in inside)
        powers.append(sum(b.joules - a.joules for a, b in inside) / seconds / watts)
        edges = (inside[0][0].error_seconds, inside[-1][1].error_seconds)
        edge_variances.append(sum(edge**2 for edge in edges) / 3 / seconds**2)
    variance = max(0.0, float(np.var(powers, ddof=1)) - float(np.mean(edge_variances)))
    quantile = float(stdtrit(num_batches - 1, (1 + CONFIDENCE) / 2))
    return quantile * math.sqrt(variance / num_batches)
