"""When a simulated GPU was truly throttled during a timing, and what could be known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from moeprof.device.sim.planted import COUNTED_EVENTS, HOT_EVENTS
from moeprof.record import ClockEvent

if TYPE_CHECKING:
    from moeprof.device.sim.device import SimulatedDevice
    from moeprof.device.sim.program import SimulatedProgram
    from moeprof.selfcheck.throttle_case import Case

# What is promised is promised of throttles as long and as deep as this.
LONG_SECONDS = 0.05
_DEEP_FRACTION = 0.95
_POWER_SHOWN_SECONDS = 0.3  # after which the slowest drawn power sensor shows a step in full


@dataclass(frozen=True, slots=True)
class Moment:
    """What was true when a sample began."""

    at_seconds: float
    sm_clock_hertz: float
    causes: frozenset[ClockEvent]


@dataclass(frozen=True, slots=True)
class TrueThrottle:
    """A stretch of a timing with a lowered clock, cut where the samples begin and end.

    `deep_seconds` is how long the clock was as low as the promises are about.
    """

    start_seconds: float
    end_seconds: float
    causes: frozenset[ClockEvent]
    deep_seconds: float
    starts_inside: bool
    ends_inside: bool


@dataclass(slots=True)
class WatchedProgram:
    """A simulated program whose truth is noted at every sample."""

    program: SimulatedProgram
    device: SimulatedDevice
    launches_per_sample: int
    moments: list[Moment] = field(default_factory=list)

    def sample(self) -> float:
        """Take one sample, and note what was true when it began."""
        program = self.program
        moment = Moment(self.device.now(), program.true_sm_clock_hertz, program.true_events)
        self.moments.append(moment)
        return program.sample()

    def run(self, seconds: float) -> int:
        """Keep the device busy."""
        return self.program.run(seconds)

    def close(self) -> None:
        """Free nothing."""


def true_throttles(
    moments: list[Moment], end_seconds: float, highest_hertz: float
) -> list[TrueThrottle]:
    """Return the throttles during the samples that began at `moments`."""
    ends = [moment.at_seconds for moment in moments[1:]] + [end_seconds]
    found = []
    runs = groupby(
        zip(moments, ends, strict=True), key=lambda pair: pair[0].sm_clock_hertz < highest_hertz
    )
    for is_throttled, run in runs:
        if not is_throttled:
            continue
        pairs = list(run)
        deep_seconds = sum(
            end - moment.at_seconds
            for moment, end in pairs
            if moment.sm_clock_hertz <= _DEEP_FRACTION * highest_hertz
        )
        start, end = pairs[0][0].at_seconds, pairs[-1][1]
        found.append(
            TrueThrottle(
                start_seconds=start,
                end_seconds=end,
                causes=frozenset[ClockEvent]().union(*(moment.causes for moment, _ in pairs)),
                deep_seconds=deep_seconds,
                starts_inside=start > moments[0].at_seconds,
                ends_inside=end < end_seconds,
            )
        )
    return found


def is_visible(throttle: TrueThrottle, case: Case) -> bool:
    """Return whether anything could tell of a throttle that lasted from end to end of a timing."""
    if throttle.starts_inside or throttle.ends_inside or case.is_remembered:
        return True
    planted = case.truth.planted
    counted = not (planted.counters_silent or planted.counters_absent)
    told = not planted.reasons_silent and planted.wrong_reason is None
    return bool((counted and throttle.causes & COUNTED_EVENTS) or (told and throttle.causes))


def fitting_causes(throttle: TrueThrottle, case: Case) -> frozenset[ClockEvent | None] | None:
    """Return the causes that fit the evidence of a throttle; None: the evidence misleads.

    A true counter or a true reason names the cause. Else power at the limit or a die at the
    slowdown temperature shows it, power with a delay. Else it cannot be known, and only None fits.
    """
    planted, causes = case.truth.planted, throttle.causes
    is_short = throttle.end_seconds - throttle.start_seconds < _POWER_SHOWN_SECONDS
    if not (planted.counters_silent or planted.counters_absent) and causes & COUNTED_EVENTS:
        return frozenset(causes & COUNTED_EVENTS)
    if is_short and _false_cap_overlaps(throttle, case):
        return None
    told = frozenset() if planted.reasons_silent else causes
    if told == causes and planted.wrong_reason is None:
        return frozenset(causes) or frozenset({None})
    if told and not _can_be_refuted(planted.wrong_reason, case, is_short=is_short):
        return None
    fitting: set[ClockEvent | None] = set()
    if ClockEvent.SW_POWER_CAP in causes:
        fitting.add(ClockEvent.SW_POWER_CAP)
        if is_short:
            fitting.add(None)
    if causes & HOT_EVENTS and _slowdown_is_known(case):
        fitting |= HOT_EVENTS
    return frozenset(fitting) or frozenset({None})


def _false_cap_overlaps(throttle: TrueThrottle, case: Case) -> bool:
    return any(
        start < throttle.end_seconds and end > throttle.start_seconds
        for start, end in case.truth.planted.false_power_caps
    )


def _can_be_refuted(wrong: ClockEvent | None, case: Case, *, is_short: bool) -> bool:
    """Return whether the power or the temperature speaks against a reason that is wrong."""
    if wrong in HOT_EVENTS:
        return _slowdown_is_known(case)
    return wrong is ClockEvent.SW_POWER_CAP and not is_short


def _slowdown_is_known(case: Case) -> bool:
    gpu = case.device.specification
    return gpu is not None and gpu.slowdown_celsius is not None
