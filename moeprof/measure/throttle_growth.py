"""How the cumulative throttling counters grew between readings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from moeprof.record import THROTTLING_EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.record import ClockEvent, DeviceState


@dataclass(frozen=True, slots=True)
class Growth:
    """A counter that grew by `seconds` between two readings, by index; others may lie between."""

    event: ClockEvent
    first: int
    last: int
    seconds: float


def growths(states: Sequence[DeviceState]) -> list[Growth]:
    """Return every growth of a throttling counter, in time order of each counter."""
    found = []
    for event in sorted(THROTTLING_EVENTS):
        # A failed read has no counters: the growth lies somewhere in the gap.
        counted = [index for index, state in enumerate(states) if event in state.throttle_seconds]
        for first, last in pairwise(counted):
            seconds = states[last].throttle_seconds[event] - states[first].throttle_seconds[event]
            if seconds > 0:
                found.append(Growth(event, first, last, seconds))
    return found


def stretches_grown(growth: Growth, states: Sequence[DeviceState], shown: Sequence[bool]) -> range:
    """Return between which readings, by the index of the first, a growth must have happened.

    Over a gap in the counters, `shown` (by reading) may tell at which of its ends.
    """
    first, last = growth.first, growth.last
    if shown[first] and not shown[last]:
        end_seconds = states[first].at_seconds + growth.seconds
        while last - 1 > first and states[last - 1].at_seconds >= end_seconds:
            last -= 1
    elif shown[last] and not shown[first]:
        start_seconds = states[last].at_seconds - growth.seconds
        while first + 1 < last and states[first + 1].at_seconds <= start_seconds:
            first += 1
    return range(first, last)
