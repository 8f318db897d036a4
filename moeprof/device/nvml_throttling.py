"""Why and for how long a GPU was slowed down: NVML's reason bits and its cumulative counters."""

from __future__ import annotations

from moeprof.device.nvml_fields import UNSIGNED_LONG_LONG, Reading
from moeprof.record import ClockEvent
from moeprof.units import seconds_from_ns

_EVENT_BITS = {
    0x1: ClockEvent.IDLE,
    0x2: ClockEvent.APPLICATIONS_CLOCKS,
    0x4: ClockEvent.SW_POWER_CAP,
    0x8: ClockEvent.HW_SLOWDOWN,
    0x10: ClockEvent.SYNC_BOOST,
    0x20: ClockEvent.SW_THERMAL_SLOWDOWN,
    0x40: ClockEvent.HW_THERMAL_SLOWDOWN,
    0x80: ClockEvent.HW_POWER_BRAKE_SLOWDOWN,
    0x100: ClockEvent.DISPLAY_CLOCKS,
}

# NVML_FI_DEV_PERF_POLICY_{POWER,THERMAL}; like all counters here, in nanoseconds (nvml.h,
# nvmlViolationTime_t and "Field values for Clock Throttle Reason Counters").
_POLICY_POWER, _POLICY_THERMAL = 74, 75

# NVML_FI_DEV_CLOCKS_EVENT_REASON_*. Drivers number them 269-271 or 251-253, and each numbering
# uses the other's for power smoothing, whose values are no 64-bit counters: the value type tells
# them apart.
_SLOWDOWN_NUMBERINGS = ((269, 270, 271), (251, 252, 253))
_SLOWDOWN_EVENTS = (
    ClockEvent.SW_THERMAL_SLOWDOWN,
    ClockEvent.HW_THERMAL_SLOWDOWN,
    ClockEvent.HW_POWER_BRAKE_SLOWDOWN,
)

COUNTER_FIELDS = (
    _POLICY_POWER,
    _POLICY_THERMAL,
    *_SLOWDOWN_NUMBERINGS[0],
    *_SLOWDOWN_NUMBERINGS[1],
)


def events_of(mask: int) -> frozenset[ClockEvent]:
    """Return the events whose bits are set in `mask`; bits without an event are passed over."""
    return frozenset(event for bit, event in _EVENT_BITS.items() if mask & bit)


def throttle_fields(found: dict[int, Reading]) -> dict[ClockEvent, int]:
    """Choose the field that counts each event on this driver, from readings of COUNTER_FIELDS."""
    chosen: dict[ClockEvent, int] = {}
    if found[_POLICY_POWER].value is not None:
        chosen[ClockEvent.SW_POWER_CAP] = _POLICY_POWER
    if found[_POLICY_THERMAL].value is not None:
        chosen[ClockEvent.SW_THERMAL_SLOWDOWN] = _POLICY_THERMAL
    for numbering in _SLOWDOWN_NUMBERINGS:
        if all(found[field_id].value_type == UNSIGNED_LONG_LONG for field_id in numbering):
            chosen.update(zip(_SLOWDOWN_EVENTS, numbering, strict=True))
            break
    return chosen


def throttle_seconds(
    chosen: dict[ClockEvent, int], found: dict[int, Reading]
) -> dict[ClockEvent, float]:
    """Return the cumulative seconds of every event whose field could be read."""
    readings = {event: found[field_id].value for event, field_id in chosen.items()}
    return {event: seconds_from_ns(ns) for event, ns in readings.items() if ns is not None}
