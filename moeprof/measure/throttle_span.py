"""From when to when a throttle lasted, to better than the interval between readings if it can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.measure.throttle_growth import Growth
    from moeprof.record import ClockEvent, DeviceState


@dataclass(frozen=True, slots=True)
class Span:
    """A throttle between the readings `first` and `last`, and what the counters grew by in it."""

    first: int
    last: int
    start_seconds: float
    end_seconds: float
    grown_seconds: dict[ClockEvent, float]


def span_of(
    states: Sequence[DeviceState],
    shown: Sequence[bool],
    grown: Sequence[Growth],
    first: int,
    last: int,
) -> Span:
    """Return the span of a throttle that two readings hold, by index; `shown` is by reading.

    A counter's growth tells how long before a reading the throttle began, or after one it ended;
    else that was halfway between two readings.
    """
    inside = [growth for growth in grown if growth.first < last and growth.last > first]
    grown_seconds: dict[ClockEvent, float] = {}
    for growth in inside:
        grown_seconds[growth.event] = grown_seconds.get(growth.event, 0.0) + growth.seconds
    early, late = states[first].at_seconds, states[last].at_seconds
    if last == first + 1 and not (shown[first] or shown[last]):
        most_seconds = max((growth.seconds for growth in inside), default=0.0)
        start_seconds = (early + late - most_seconds) / 2
        end_seconds = start_seconds + most_seconds
    else:
        start_seconds, end_seconds = early, late
        if not shown[first]:
            found = [
                states[growth.last].at_seconds - growth.seconds
                for growth in inside
                if growth.first <= first
            ]
            start_seconds = min(found, default=(early + states[first + 1].at_seconds) / 2)
        if not shown[last]:
            found = [
                states[growth.first].at_seconds + growth.seconds
                for growth in inside
                if growth.last >= last
            ]
            end_seconds = max(found, default=(states[last - 1].at_seconds + late) / 2)
    start_seconds, end_seconds = max(early, start_seconds), min(late, end_seconds)
    return Span(first, last, start_seconds, end_seconds, grown_seconds)
