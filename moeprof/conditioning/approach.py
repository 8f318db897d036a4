"""What the readings on the way to a set point say: settled, still coming, or out of reach."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from moeprof.conditioning.settings import HoldSettings

_SECONDS_PER_MINUTE = 60.0
_READINGS_MIN = 8
_WINDOW_SETTLES = 2  # the kept window, in settling times
_STEP_CELSIUS = 1.0  # what a rounded reading can show
_HALF_STEP_CELSIUS = 0.5
# A die at rest for this long, and for longer than it took to get there, comes no nearer.
_STALLED_SECONDS_MIN = 150.0
_STALLED_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Ending:
    """The mean reading, its drift and the share of load over the last settling time."""

    celsius: float
    drift_celsius_per_minute: float | None
    duty_fraction: float


class Approach:
    """Follows readings toward a set point; seconds count from the first one."""

    def __init__(self, settings: HoldSettings, goal_celsius: float) -> None:
        self._settings = settings
        self._goal_celsius = goal_celsius
        self._readings: deque[tuple[float, float, bool]] = deque()
        self._inside_since_seconds: float | None = None
        self._checked_seconds = 0.0
        self._from_below: bool | None = None
        self._mark_celsius = 0.0
        self._mark_seconds = 0.0
        self.celsius = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether there has been no reading yet."""
        return not self._readings

    def add(self, seconds: float, celsius: float, *, heating: bool) -> None:
        """Take in a reading, and whether the device is put under load after it."""
        self.celsius = celsius
        self._readings.append((seconds, celsius, heating))
        while self._readings[0][0] < seconds - _WINDOW_SETTLES * self._settings.settle_seconds:
            self._readings.popleft()
        if abs(celsius - self._goal_celsius) > self._settings.tolerance_celsius:
            self._inside_since_seconds = None
        elif self._inside_since_seconds is None:
            self._inside_since_seconds = seconds
        from_below = celsius < self._goal_celsius
        nearer = celsius - self._mark_celsius if from_below else self._mark_celsius - celsius
        if from_below != self._from_below or nearer >= _STEP_CELSIUS:
            self._from_below = from_below
            self._mark_celsius, self._mark_seconds = celsius, seconds

    def is_settled(self) -> bool:
        """Return whether all is within tolerance and drift for `settle_seconds`; looks each second.

        Readings rounded to 1 C need time to show that they do not drift, so a longer window may
        show what `settle_seconds` do not.
        """
        now_seconds, settings = self._readings[-1][0], self._settings
        since_seconds = self._inside_since_seconds
        if since_seconds is None or now_seconds - since_seconds < settings.settle_seconds:
            return False
        if now_seconds - self._checked_seconds < 1.0:
            return False
        self._checked_seconds = now_seconds
        drifts = (
            self._drift(max(since_seconds, now_seconds - length * settings.settle_seconds))
            for length in (1, _WINDOW_SETTLES)
        )
        return any(
            drift is not None and abs(drift) <= settings.drift_celsius_per_minute_max
            for drift in drifts
        )

    def trouble(self) -> str | None:
        """Return why the set point will not be reached, or None as long as it may be.

        The step response of a die flattens: if its last degree took W seconds, each further one
        takes W or longer.
        """
        seconds, settings = self._readings[-1][0], self._settings
        if seconds >= settings.seconds_max:
            return f"the time allowed, {settings.seconds_max:g} s, is over"
        if self._inside_since_seconds is not None:
            return None
        waited_seconds = seconds - self._mark_seconds
        missing_celsius = (
            abs(self.celsius - self._goal_celsius) - settings.tolerance_celsius - _HALF_STEP_CELSIUS
        )
        too_slow = missing_celsius * waited_seconds > settings.seconds_max - seconds
        stalled = waited_seconds > max(_STALLED_SECONDS_MIN, _STALLED_RATIO * self._mark_seconds)
        if not (too_slow or stalled):
            return None
        return (
            "full load does not heat it enough" if self._from_below else "idling cools too little"
        )

    def ending(self) -> Ending | None:
        """Return the last settling time summed up; None without a reading."""
        if not self._readings:
            return None
        start_seconds = self._readings[-1][0] - self._settings.settle_seconds
        last = [each for each in self._readings if each[0] >= start_seconds]
        return Ending(
            celsius=float(np.mean([celsius for _, celsius, _ in last])),
            drift_celsius_per_minute=self._drift(start_seconds),
            duty_fraction=_duty_fraction(last),
        )

    def _drift(self, start_seconds: float) -> float | None:
        table = np.array([each[:2] for each in self._readings if each[0] >= start_seconds])
        if len(table) < _READINGS_MIN:
            return None
        seconds = table[:, 0] - table[:, 0].mean()
        return float(seconds @ table[:, 1] / (seconds @ seconds)) * _SECONDS_PER_MINUTE


def _duty_fraction(readings: list[tuple[float, float, bool]]) -> float:
    """Return the share of time under load; slices differ in length."""
    pairs = list(pairwise(readings))
    total_seconds = sum(after[0] - before[0] for before, after in pairs)
    loaded_seconds = sum(after[0] - before[0] for before, after in pairs if before[2])
    return loaded_seconds / total_seconds if total_seconds else float(readings[-1][2])


def describe(ending: Ending, goal_celsius: float) -> str:
    """Return in words how near a hold came."""
    return f"it came to {ending.celsius:.1f} °C, {ending.celsius - goal_celsius:+.1f} °C off"
