"""The energy that a simulated counter shows: it moves at its own ticks, in whole millijoules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moeprof.device.sim.truth import Truth

_STEPS_PER_JOULE = 1000  # NVML counts millijoules


class TickingCounter:
    """Follows the true energy; a tick shows what had been used by the counter's lag before it.

    `phase_seconds` is the moment of one tick, `origin_joules` what the counter showed at time 0.
    Nothing is counted before that.
    """

    def __init__(self, truth: Truth, *, phase_seconds: float, origin_joules: float) -> None:
        self._period_seconds = truth.counter_seconds
        self._lag_seconds = truth.counter_lag_seconds
        self._gain = 1 + truth.counter_gain_error_fraction
        self._reset_seconds = truth.counter_reset_seconds
        self._phase_seconds = phase_seconds
        self._origin_joules = origin_joules
        self._tick_joules = 0.0
        # Ticks are numbered from the one at `phase_seconds`; both numbers are of the next tick.
        self._tick = math.floor(-phase_seconds / self._period_seconds) + 1
        self._taken_tick = self._tick
        self._taken_joules: list[float] = []  # by ticks to come
        self._schedule()
        while self._take_seconds < 0:
            self._take(0.0)

    def follow(self, start_seconds: float, end_seconds: float, joules: float, watts: float) -> None:
        """Note constant `watts` from start to end, after `joules` had been used by the start."""
        while self._take_seconds <= end_seconds:
            self._take(joules + watts * (self._take_seconds - start_seconds))
        while self._show_seconds <= end_seconds:
            self._show()

    def joules(self) -> float:
        """Return what the counter shows now."""
        shown = self._origin_joules + self._tick_joules * self._gain
        return math.floor(shown * _STEPS_PER_JOULE) / _STEPS_PER_JOULE

    def _take(self, joules: float) -> None:
        self._taken_joules.append(joules)
        self._taken_tick += 1
        self._schedule()

    def _show(self) -> None:
        self._tick_joules = self._taken_joules.pop(0)
        if self._reset_seconds is not None:
            last_seconds = max(self._show_seconds - self._period_seconds, 0.0)
            if self._show_seconds // self._reset_seconds > last_seconds // self._reset_seconds:
                self._origin_joules = -self._tick_joules * self._gain
        self._tick += 1
        self._schedule()

    def _schedule(self) -> None:
        """Set when the next tick shows, and when what a later one shows is taken."""
        self._show_seconds = self._tick * self._period_seconds + self._phase_seconds
        taken_seconds = self._taken_tick * self._period_seconds + self._phase_seconds
        self._take_seconds = taken_seconds - self._lag_seconds

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state, for `restore`."""
        return {
            "phase_seconds": self._phase_seconds,
            "tick": self._tick,
            "taken_tick": self._taken_tick,
            "taken_joules": list(self._taken_joules),
            "origin_joules": self._origin_joules,
            "tick_joules": self._tick_joules,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._phase_seconds = snapshot["phase_seconds"]
        self._tick = snapshot["tick"]
        self._taken_tick = snapshot["taken_tick"]
        self._taken_joules = list(snapshot["taken_joules"])
        self._origin_joules = snapshot["origin_joules"]
        self._tick_joules = snapshot["tick_joules"]
        self._schedule()
