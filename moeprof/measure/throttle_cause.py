"""What held a device's clock back over one stretch of readings, as far as anything tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.measure.throttle_readings import (
    NEAR_SLOWDOWN_CELSIUS,
    POWER_SETTLED_SECONDS,
    THERMAL_EVENTS,
    is_near_limit,
    is_near_slowdown,
    told_throttling,
)
from moeprof.record import ClockEvent

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from moeprof.measure.throttle_readings import Known
    from moeprof.record import DeviceState

_POWER_LATE_SECONDS = 0.1
# Where only a 1 s average can be read, power that rises by so much of the limit may end there.
_POWER_RISE_SECONDS = 0.2
_POWER_RISE_FRACTION = 0.05

# Where several causes are told, the first of these: the most particular one.
_BY_PARTICULARITY = (
    ClockEvent.HW_POWER_BRAKE_SLOWDOWN,
    ClockEvent.HW_THERMAL_SLOWDOWN,
    ClockEvent.SW_THERMAL_SLOWDOWN,
    ClockEvent.SW_POWER_CAP,
    ClockEvent.HW_SLOWDOWN,
)


def cause_of(
    states: Sequence[DeviceState],
    span: tuple[float, float],
    grown_seconds: Mapping[ClockEvent, float],
    known: Known,
    refuted: Collection[ClockEvent],
) -> tuple[ClockEvent | None, bool]:
    """Return the cause of a throttle from span[0] to span[1], and whether the device told it.

    `states` are all filled readings, `grown_seconds` what each counter grew by, `refuted` the
    causes that the device would have counted. Counters come first; then the reasons that the power
    and the temperatures do not contradict; then these themselves. A clock that is low for no reason
    that shows has the cause None.
    """
    if grown_seconds:
        most_seconds = max(grown_seconds.values())
        return _chosen([e for e, seconds in grown_seconds.items() if seconds >= most_seconds / 2])
    inside = [state for state in states if span[0] <= state.at_seconds <= span[1]]
    power_says = _power_says(states, span, known)
    told = [
        event
        for event in _often_told(inside)
        if event not in refuted
        and not (event is ClockEvent.SW_POWER_CAP and power_says is False)
        and not (event in THERMAL_EVENTS and _is_cool(inside, known))
    ]
    if told:
        return _chosen(told)
    if power_says and ClockEvent.SW_POWER_CAP not in refuted:
        return ClockEvent.SW_POWER_CAP, False
    is_hot = any(is_near_slowdown(state.die_celsius, known) for state in inside)
    if is_hot and not THERMAL_EVENTS.intersection(refuted):
        return ClockEvent.SW_THERMAL_SLOWDOWN, False
    return None, False


def _chosen(told: Sequence[ClockEvent]) -> tuple[ClockEvent, bool]:
    return min(told, key=_BY_PARTICULARITY.index), True


def _often_told(inside: Sequence[DeviceState]) -> list[ClockEvent]:
    readings = [told_throttling(state) for state in inside if state.clock_events is not None]
    return [
        event
        for event in _BY_PARTICULARITY
        if 2 * sum(event in told for told in readings) > len(readings)
    ]


def _power_says(
    states: Sequence[DeviceState], span: tuple[float, float], known: Known
) -> bool | None:
    """Return whether power was near its limit; None: not known, or the sensor had no time."""
    start_seconds, end_seconds = span
    settled_seconds = max(
        start_seconds + _POWER_LATE_SECONDS, end_seconds - 2 * POWER_SETTLED_SECONDS
    )
    late_seconds = end_seconds + _POWER_LATE_SECONDS
    seen_watts = [
        state.watts
        for state in states
        if state.watts is not None and settled_seconds <= state.at_seconds <= late_seconds
    ]
    if known.power_limit_watts is None or not seen_watts:
        return None
    most_watts = max(seen_watts)
    if is_near_limit(most_watts, known):
        return True
    earlier_watts = [
        state.watts
        for state in states
        if state.watts is not None and state.at_seconds < end_seconds - _POWER_RISE_SECONDS
    ]
    rise_watts = _POWER_RISE_FRACTION * known.power_limit_watts
    rising = bool(earlier_watts) and most_watts >= earlier_watts[-1] + rise_watts
    too_short = end_seconds - start_seconds < POWER_SETTLED_SECONDS
    return None if rising or too_short else False


def _is_cool(inside: Sequence[DeviceState], known: Known) -> bool:
    """Return whether die and memory are both seen to be far from where a slowdown begins."""
    if known.slowdown_celsius is None:
        return False
    cool_celsius = known.slowdown_celsius - 2 * NEAR_SLOWDOWN_CELSIUS
    for temperatures in (
        [state.die_celsius for state in inside],
        [state.memory_celsius for state in inside],  # hot memory slows the clocks as well
    ):
        read = [celsius for celsius in temperatures if celsius is not None]
        if not read or max(read) >= cool_celsius:
            return False
    return True
