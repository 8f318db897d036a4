"""Between which readings of a device its clocks were held back, and by what."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from moeprof.measure.throttle_cause import cause_of
from moeprof.measure.throttle_growth import growths, stretches_grown
from moeprof.measure.throttle_readings import NOTHING_KNOWN, Known, filled, throttled_readings
from moeprof.measure.throttle_span import Span, span_of
from moeprof.record import ThrottleEvent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from moeprof.device.protocol import Device
    from moeprof.measure.throttle_growth import Growth
    from moeprof.record import ClockEvent, DeviceState


@dataclass(frozen=True, slots=True)
class Throttling:
    """The throttles that readings show, and for each reading the one in force until the next."""

    events: tuple[ThrottleEvent, ...]
    stretches: tuple[ThrottleEvent | None, ...]


def known_of(device: Device, undisturbed_hertz: float | None = None) -> Known:
    """Return what is known of a device besides its readings."""
    gpu = device.specification
    return Known(
        power_limit_watts=device.power_limit_watts,
        slowdown_celsius=None if gpu is None else gpu.slowdown_celsius,
        sm_clock_hertz_max=None if gpu is None else gpu.sm_clock_hertz_max,
        undisturbed_hertz=undisturbed_hertz,
    )


def throttling(
    states: Sequence[DeviceState],
    known: Known = NOTHING_KNOWN,
    resumed: Collection[int] = (),
) -> Throttling:
    """Return the throttles seen in readings in time order; `resumed` follow a pause, by index.

    From one reading to the next the device was throttled if either of them shows it, or if a
    cumulative counter grew; the counters see what happens between two readings.
    """
    states = filled(states)
    shown = throttled_readings(states, known, resumed)
    grown = growths(states)
    flagged = [here or after for here, after in pairwise(shown)] + shown[-1:]
    for growth in grown:
        for index in stretches_grown(growth, states, shown):
            flagged[index] = True
    spans = []
    for is_throttled, run in groupby(range(len(states)), key=flagged.__getitem__):
        indices = list(run)
        if is_throttled:
            last = min(indices[-1] + 1, len(states) - 1)
            spans.append(span_of(states, shown, grown, indices[0], last))
    events = _named(states, spans, grown, known)
    stretches: list[ThrottleEvent | None] = [None] * len(states)
    for span, event in zip(spans, events, strict=True):
        for index in range(span.first, span.last):
            stretches[index] = event
    if flagged and flagged[-1]:
        stretches[-1] = events[-1]
    return Throttling(events, tuple(stretches))


def union_of_events(states: Sequence[DeviceState]) -> frozenset[ClockEvent] | None:
    """Return every clock event that was seen; None where no reading told any."""
    told = [state.clock_events for state in states if state.clock_events is not None]
    grown = {growth.event for growth in growths(states)}
    return frozenset().union(*told, grown) if told or grown else None


def throttling_is_visible(states: Sequence[DeviceState]) -> bool:
    """Return whether any sensor could have shown throttling."""
    return any(
        state.clock_events is not None or state.throttle_seconds or state.sm_clock_hertz
        for state in states
    )


def _named(
    states: Sequence[DeviceState], spans: Sequence[Span], grown: Sequence[Growth], known: Known
) -> tuple[ThrottleEvent, ...]:
    """Return a throttle for each span, with its cause.

    Counters that move at all are not silent, so those that stood still over a span refute their
    causes; so does a reason that was told truly of one throttle and is missing in another.
    """
    counted = {event for state in states for event in state.throttle_seconds} if grown else set()
    first = [_event(states, span, known, counted) for span in spans]
    told = {event.cause for event in first if event.told and event.cause is not None}
    return tuple(
        event if event.told else _event(states, span, known, counted | told)
        for span, event in zip(spans, first, strict=True)
    )


def _event(
    states: Sequence[DeviceState], span: Span, known: Known, refuted: Collection[ClockEvent]
) -> ThrottleEvent:
    bounds = (span.start_seconds, span.end_seconds)
    cause, told = cause_of(states, bounds, span.grown_seconds, known, refuted)
    return ThrottleEvent(*bounds, cause, told)
