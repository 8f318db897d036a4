"""Which SM clock a simulated GPU allows itself, under a power, a temperature and a planted cap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from moeprof.record import ClockEvent

if TYPE_CHECKING:
    from moeprof.device.sim.planted import PlantedThrottle
    from moeprof.device.sim.truth import Truth


class Governor:
    """Two caps on the SM clock that are moved in steps, and a planted one; the lowest rules."""

    __slots__ = ("_truth", "planted", "power_cap_hertz", "sm_clock_hertz", "thermal_cap_hertz")

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.power_cap_hertz = truth.sm_clock_hertz_max
        self.thermal_cap_hertz = truth.sm_clock_hertz_max
        self.planted: PlantedThrottle | None = None
        self.sm_clock_hertz = truth.sm_clock_hertz_max  # of busy SMs

    @property
    def events(self) -> frozenset[ClockEvent]:
        """The causes that hold the clock of busy SMs below its highest."""
        highest = self._truth.sm_clock_hertz_max
        causes = set()
        if self.power_cap_hertz < highest:
            causes.add(ClockEvent.SW_POWER_CAP)
        if self.thermal_cap_hertz < highest:
            causes.add(ClockEvent.SW_THERMAL_SLOWDOWN)
        if self.planted is not None and self.planted.cause is not None:
            causes.add(self.planted.cause)
        return frozenset(causes)

    def plant(self, throttle: PlantedThrottle | None) -> None:
        """Begin a planted throttle, or end the one in force."""
        self.planted = throttle
        self._settle()

    def decide(self, mean_watts: float, die_celsius: float) -> None:
        """Move the caps after a period of `mean_watts`, with the die at `die_celsius`."""
        truth = self._truth
        highest = truth.sm_clock_hertz_max
        excess_fraction = mean_watts / truth.power_limit_watts - 1
        if excess_fraction > 0:
            num_steps = -math.ceil(excess_fraction * truth.governor_num_steps)
            self.power_cap_hertz = self._moved(self.power_cap_hertz, num_steps)
        elif excess_fraction < -truth.governor_slack_fraction and self.power_cap_hertz < highest:
            num_steps = math.ceil(-excess_fraction * truth.governor_num_steps)
            self.power_cap_hertz = self._moved(self.power_cap_hertz, num_steps)
        if die_celsius >= truth.slowdown_celsius:
            self.thermal_cap_hertz = self._moved(self.thermal_cap_hertz, -1)
        elif (
            self.thermal_cap_hertz < highest
            and die_celsius < truth.slowdown_celsius - truth.thermal_slack_celsius
        ):
            self.thermal_cap_hertz = self._moved(self.thermal_cap_hertz, 1)
        self._settle()

    def _moved(self, cap_hertz: float, num_steps: int) -> float:
        moved_hertz = cap_hertz + num_steps * self._truth.sm_clock_step_hertz
        return max(self._truth.sm_clock_hertz_min, min(self._truth.sm_clock_hertz_max, moved_hertz))

    def _settle(self) -> None:
        self.sm_clock_hertz = min(self.power_cap_hertz, self.thermal_cap_hertz)
        if self.planted is not None:
            planted_hertz = self.planted.clock_fraction * self._truth.sm_clock_hertz_max
            self.sm_clock_hertz = min(self.sm_clock_hertz, planted_hertz)

    def snapshot(self) -> dict[str, float]:
        """Return the caps that are moved, for `restore`; what is planted follows from the time."""
        return {"power_cap": self.power_cap_hertz, "thermal_cap": self.thermal_cap_hertz}

    def restore(self, snapshot: dict[str, float]) -> None:
        """Go on from the caps that `snapshot` returned."""
        self.power_cap_hertz = snapshot["power_cap"]
        self.thermal_cap_hertz = snapshot["thermal_cap"]
        self._settle()
