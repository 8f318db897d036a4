"""Throttling that is planted on a simulated GPU's time line, with true or false evidence of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from moeprof.record import ClockEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_COUNTERS = "the simulated card has no throttling counters"

# NVML counts these; of hw_slowdown it only has the bit.
COUNTED_EVENTS = frozenset(
    {
        ClockEvent.SW_POWER_CAP,
        ClockEvent.SW_THERMAL_SLOWDOWN,
        ClockEvent.HW_THERMAL_SLOWDOWN,
        ClockEvent.HW_POWER_BRAKE_SLOWDOWN,
    }
)
HOT_EVENTS = frozenset({ClockEvent.SW_THERMAL_SLOWDOWN, ClockEvent.HW_THERMAL_SLOWDOWN})


@dataclass(frozen=True, slots=True)
class PlantedThrottle:
    """A stretch of device time in which the SM clock is held to a fraction of the highest.

    A power cap comes with power close below the limit, a thermal slowdown with a die close below
    the slowdown temperature. No cause: nothing but the clock shows it.
    """

    start_seconds: float
    end_seconds: float
    cause: ClockEvent | None
    clock_fraction: float


@dataclass(frozen=True, slots=True)
class Planted:
    """Throttles in time order that do not overlap, and how the sensors lie about any throttling.

    `wrong_reason` is told in place of every true reason; `false_power_caps` are stretches (from,
    to) of device time in which a power cap is told that is none, as some boards do.
    `clock_wander_steps` is by how many clock steps, at most, a reading of the clock is too low.
    """

    throttles: tuple[PlantedThrottle, ...] = ()
    reasons_silent: bool = False
    wrong_reason: ClockEvent | None = None
    false_power_caps: tuple[tuple[float, float], ...] = ()
    counters_silent: bool = False
    counters_absent: bool = False
    clock_wander_steps: int = 0

    def __post_init__(self) -> None:
        """Assert what `throttle_at` relies on."""
        for throttle in self.throttles:
            assert throttle.start_seconds < throttle.end_seconds, "a throttle ends after it starts"
        for before, after in pairwise(self.throttles):
            assert before.end_seconds <= after.start_seconds, "planted throttles overlap"

    def throttle_at(self, seconds: float) -> PlantedThrottle | None:
        """Return the throttle in force at one moment."""
        for throttle in self.throttles:
            if throttle.start_seconds <= seconds < throttle.end_seconds:
                return throttle
        return None

    def next_edge(self, seconds: float) -> float:
        """Return when the next throttle begins or ends, infinite after the last."""
        edges = (
            edge
            for throttle in self.throttles
            for edge in (throttle.start_seconds, throttle.end_seconds)
        )
        return min((edge for edge in edges if edge > seconds), default=math.inf)

    def told_events(self, true: frozenset[ClockEvent], seconds: float) -> frozenset[ClockEvent]:
        """Return the reasons that a busy card tells, of those that are true."""
        told = frozenset() if self.reasons_silent else true
        if told and self.wrong_reason is not None:
            told = frozenset({self.wrong_reason})
        if any(start <= seconds < end for start, end in self.false_power_caps):
            told |= {ClockEvent.SW_POWER_CAP}
        return told

    def told_seconds(self, true: Mapping[ClockEvent, float]) -> dict[ClockEvent, float]:
        """Return what the counters tell, of what they truly counted."""
        if self.counters_absent:
            return {}
        return dict.fromkeys(true, 0.0) if self.counters_silent else dict(true)

    def counted_events(self) -> frozenset[ClockEvent]:
        """Return the causes planted that have a counter."""
        return COUNTED_EVENTS.intersection(throttle.cause for throttle in self.throttles)


NOTHING_PLANTED = Planted()
