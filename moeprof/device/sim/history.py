"""How much energy a simulated GPU had used at any moment of the last seconds."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moeprof.device.sim.truth import Truth

_POINTS_PER_WINDOW = 50
_SPACING_SECONDS_MAX = 0.004  # well below the 20 ms between updates of any sensor
_KEPT_POINTS = 1024  # before old points are let go, so that this is done rarely


class EnergyHistory:
    """Cumulative joules over time, as straight lines between points.

    Points closer together than a fiftieth of the power window, or 4 ms, are merged, so that
    thousands of short samples cost little.
    """

    def __init__(self, truth: Truth, idle_watts: float) -> None:
        window_seconds = truth.power_window_seconds
        self._kept_seconds = window_seconds + truth.power_lag_seconds + truth.power_update_seconds
        self._spacing_seconds = min(window_seconds / _POINTS_PER_WINDOW, _SPACING_SECONDS_MAX)
        # The card was idle before time 0, so that the first reading has a full window.
        self._at_seconds = [-2 * self._kept_seconds, 0.0]
        self._joules = [-2 * self._kept_seconds * idle_watts, 0.0]

    def add(self, at_seconds: float, joules: float) -> None:
        """Note that `joules` had been used by `at_seconds`; both only grow."""
        times = self._at_seconds
        if at_seconds - times[-2] < self._spacing_seconds:
            times[-1], self._joules[-1] = at_seconds, joules
            return
        times.append(at_seconds)
        self._joules.append(joules)
        if len(times) > _KEPT_POINTS:
            num_old = bisect_right(times, at_seconds - 2 * self._kept_seconds) - 1
            if num_old > 0:
                del times[:num_old], self._joules[:num_old]

    def joules_at(self, at_seconds: float) -> float:
        """Return the joules used by a moment of the last seconds."""
        times = self._at_seconds
        index = min(max(bisect_right(times, at_seconds), 1), len(times) - 1)
        start, end = times[index - 1], times[index]
        share = (at_seconds - start) / (end - start)
        return self._joules[index - 1] + share * (self._joules[index] - self._joules[index - 1])

    def snapshot(self) -> dict[str, Any]:
        """Return every point, for `restore`."""
        return {"at_seconds": list(self._at_seconds), "joules": list(self._joules)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._at_seconds = list(snapshot["at_seconds"])
        self._joules = list(snapshot["joules"])
