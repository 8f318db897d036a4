"""Between which readings of a device its clocks were held back, and by what."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from moeprof.record import THROTTLING_EVENTS, ClockEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.record import DeviceState

# Clocks of an unthrottled GPU wander by a step or two of 15 MHz in about 2 GHz.
_CLOCK_DROP_FRACTION = 0.03


def throttled_stretches(states: Sequence[DeviceState]) -> list[bool]:
    """Return, for each reading, whether the device was throttled from it to the next reading.

    A stretch is throttled if either end reports a throttling event or an SM clock 3 % below the
    highest seen (unless the device was idle), or if a cumulative counter grew over it; the counters
    see what happens between two readings.
    """
    at_reading = _clock_dropped(states)
    for index, state in enumerate(states):
        at_reading[index] |= bool((state.clock_events or frozenset()) & THROTTLING_EVENTS)
    stretches = [here or after for here, after in pairwise(at_reading)] + at_reading[-1:]
    for event in THROTTLING_EVENTS:
        # A failed read has no counters: growth over the gap marks the whole gap.
        counted = [index for index, state in enumerate(states) if event in state.throttle_seconds]
        for before, after in pairwise(counted):
            grown = states[after].throttle_seconds[event] - states[before].throttle_seconds[event]
            if grown > 0:
                stretches[before:after] = [True] * (after - before)
    return stretches


def union_of_events(states: Sequence[DeviceState]) -> frozenset[ClockEvent] | None:
    """Return every clock event that was seen; None where no reading told any."""
    told = [state.clock_events for state in states if state.clock_events is not None]
    grown = {
        event
        for before, after in pairwise([s for s in states if s.throttle_seconds])
        for event, seconds in after.throttle_seconds.items()
        if seconds > before.throttle_seconds.get(event, seconds)
    }
    return frozenset().union(*told, grown) if told or grown else None


def throttling_is_visible(states: Sequence[DeviceState]) -> bool:
    """Return whether any sensor could have shown throttling."""
    return any(
        state.clock_events is not None or state.throttle_seconds or state.sm_clock_hertz
        for state in states
    )


def is_idle(state: DeviceState) -> bool:
    """Return whether a reading says that the device had nothing to do, so its clock is low."""
    return state.clock_events is not None and ClockEvent.IDLE in state.clock_events


def _clock_dropped(states: Sequence[DeviceState]) -> list[bool]:
    clocks = [None if is_idle(state) else state.sm_clock_hertz for state in states]
    lowest_normal = max((clock for clock in clocks if clock), default=0.0) * (
        1 - _CLOCK_DROP_FRACTION
    )
    return [clock is not None and clock < lowest_normal for clock in clocks]
