"""The energy that a simulated counter shows: it moves at its own ticks, in whole millijoules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moeprof.device.sim.truth import Truth

_STEPS_PER_JOULE = 1000  # NVML counts millijoules


class TickingCounter:
    """Follows the true energy, and shows what it was at the last tick.

    `phase_seconds` is the moment of one tick, `origin_joules` what the counter showed at time 0.
    """

    def __init__(self, truth: Truth, *, phase_seconds: float, origin_joules: float) -> None:
        self._period_seconds = truth.counter_seconds
        self._gain = 1 + truth.counter_gain_error_fraction
        self._reset_seconds = truth.counter_reset_seconds
        self._phase_seconds = phase_seconds
        self._tick = math.floor(-phase_seconds / self._period_seconds)
        self._origin_joules = origin_joules
        self._tick_joules = 0.0

    def follow(self, start_seconds: float, end_seconds: float, joules: float, watts: float) -> None:
        """Note constant `watts` from start to end, after `joules` had been used by the start."""
        tick = math.floor((end_seconds - self._phase_seconds) / self._period_seconds)
        if tick == self._tick:
            return
        at_seconds = tick * self._period_seconds + self._phase_seconds
        self._tick_joules = joules + watts * (at_seconds - start_seconds)
        if self._reset_seconds is not None:
            last_seconds = self._tick * self._period_seconds + self._phase_seconds
            if at_seconds // self._reset_seconds > max(last_seconds, 0) // self._reset_seconds:
                self._origin_joules = -self._tick_joules * self._gain
        self._tick = tick

    def joules(self) -> float:
        """Return what the counter shows now."""
        shown = self._origin_joules + self._tick_joules * self._gain
        return math.floor(shown * _STEPS_PER_JOULE) / _STEPS_PER_JOULE

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state, for `restore`."""
        return {
            "phase_seconds": self._phase_seconds,
            "tick": self._tick,
            "origin_joules": self._origin_joules,
            "tick_joules": self._tick_joules,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._phase_seconds = snapshot["phase_seconds"]
        self._tick = snapshot["tick"]
        self._origin_joules = snapshot["origin_joules"]
        self._tick_joules = snapshot["tick_joules"]
