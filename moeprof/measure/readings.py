"""The readings of a device while a point was timed, summed up."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from moeprof.measure.throttle import throttling_is_visible, union_of_events
from moeprof.measure.throttle_readings import is_idle

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from moeprof.record import ClockEvent, DeviceState, ThrottleEvent


@dataclass(frozen=True, slots=True)
class Readings:
    """Means over the readings, unless the name says otherwise; None is what no reading gave.

    `ended_by` is None where the stopping rule was satisfied, else the budget or trouble that ended
    the timing before it was. `num_rejected` counts the samples not kept, by reason.
    """

    die_celsius: float | None
    die_celsius_start: float | None
    die_celsius_end: float | None
    memory_celsius: float | None
    sm_clock_hertz: float | None
    sm_clock_hertz_min: float | None
    memory_clock_hertz: float | None
    clock_events: frozenset[ClockEvent] | None
    throttled_fraction: float | None
    num_rejected: dict[str, int]
    ended_by: str | None
    throttle_events: tuple[ThrottleEvent, ...] = ()
    sm_clock_hertz_max: float | None = None
    start_seconds: float = 0.0  # of the first reading, on the device's time line


def summary(
    states: Sequence[DeviceState],
    throttled: Sequence[bool],
    num_rejected: dict[str, int],
    ended_by: str | None,
    throttle_events: tuple[ThrottleEvent, ...] = (),
) -> Readings:
    """Return the summary of readings in time order; `throttled` has one entry per kept sample."""
    die = _given(state.die_celsius for state in states)
    clocks = _given(state.sm_clock_hertz for state in states if not is_idle(state))
    visible = bool(throttled) and throttling_is_visible(states)
    return Readings(
        die_celsius=_mean(die),
        die_celsius_start=die[0] if die else None,
        die_celsius_end=die[-1] if die else None,
        memory_celsius=_mean(_given(state.memory_celsius for state in states)),
        sm_clock_hertz=_mean(clocks),
        sm_clock_hertz_min=min(clocks, default=None),
        memory_clock_hertz=_mean(_given(state.memory_clock_hertz for state in states)),
        clock_events=union_of_events(states),
        throttled_fraction=sum(throttled) / len(throttled) if visible else None,
        num_rejected=num_rejected,
        ended_by=ended_by,
        throttle_events=throttle_events,
        sm_clock_hertz_max=max(clocks, default=None),
        start_seconds=states[0].at_seconds if states else 0.0,
    )


def _given(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None
