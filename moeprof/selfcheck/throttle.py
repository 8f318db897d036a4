"""Audit of the throttle watch: what it finds and names, on GPUs whose sensors may lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moeprof.measure.settings import StoppingSettings
from moeprof.measure.timing import POLL_SECONDS, measure_latency
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.finding import Promise, of_interval, of_share, skipped, told
from moeprof.selfcheck.throttle_case import FREE_SECONDS, drawn_case
from moeprof.selfcheck.throttle_truth import (
    LONG_SECONDS,
    WatchedProgram,
    fitting_causes,
    is_visible,
    true_throttles,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.hardware.gpu import GPU
    from moeprof.record import ThrottleEvent
    from moeprof.selfcheck.finding import Finding
    from moeprof.selfcheck.throttle_case import Case
    from moeprof.selfcheck.throttle_truth import Moment, TrueThrottle

RECALL = Promise("throttle_recall", "at least 99 % of throttles of 50 ms or more found", low=0.99)
FALSE_RATE = Promise(
    "throttle_false_rate", "at most 0.1 % of the samples outside throttles flagged", high=0.001
)
CAUSE_ACCURACY = Promise(
    "throttle_cause_accuracy", "at least 95 % of the causes fit their evidence", low=0.95
)
TIME_ERROR = "throttle_time_error_seconds"

_NUM_TRIALS = 400
_STANDARD_ERRORS = 2.576  # of confidence 0.99
_QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Judged:
    """A true throttle and what became of it; `fits` is None where its evidence misleads."""

    seconds: float
    found: bool
    fits: bool | None
    errors_seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Watched:
    """One timing: its throttles that could be seen, and its samples outside any throttle."""

    throttles: tuple[Judged, ...]
    num_hidden: int
    num_outside: int
    num_flagged: int


def trial(gpu: GPU, random: np.random.Generator) -> Watched:
    """Time one drawn device with the production code, and compare what it saw with the truth."""
    case = drawn_case(gpu, random)
    device = case.device
    bare = device.prepare(case.work)
    bare.run(FREE_SECONDS)
    clock_hertz = device.state().sm_clock_hertz
    program = WatchedProgram(bare, device, bare.launches_per_sample)
    if case.heating_seconds:
        program.run(case.heating_seconds)
    settings = StoppingSettings(
        relative_half_width_fraction=1e-9,
        num_samples_max=1_000_000,
        seconds_max=case.timing_seconds,
    )
    latency, readings = measure_latency(
        device,
        program,
        settings,
        None,
        undisturbed_hertz=clock_hertz if case.is_remembered else None,
    )
    assert latency is not None, "simulated samples are positive, so they are kept"
    flags = [sample.throttled for sample in latency.samples]
    moments = program.moments[-len(flags) :]
    throttles = true_throttles(moments, device.now(), case.truth.sm_clock_hertz_max)
    outside = _outside(moments, device.now(), throttles)
    counted = [throttle for throttle in throttles if throttle.deep_seconds >= LONG_SECONDS]
    seen = [throttle for throttle in counted if is_visible(throttle, case)]
    return Watched(
        throttles=tuple(_judged(each, readings.throttle_events, case) for each in seen),
        num_hidden=len(counted) - len(seen),
        num_outside=sum(outside),
        num_flagged=sum(flag and out for flag, out in zip(flags, outside, strict=True)),
    )


def judge(outcomes: Sequence[Watched]) -> tuple[Finding, ...]:
    """Return how many throttles were found and named, and how much was flagged for nothing."""
    throttles = [throttle for watched in outcomes for throttle in watched.throttles]
    named = [each.fits for each in throttles if each.found and each.fits is not None]
    errors = [error for throttle in throttles for error in throttle.errors_seconds]
    error = float(np.quantile(errors, _QUANTILE, method="higher")) if errors else None
    words = "the start and the end of a throttle are off by so much, in 95 % of cases"
    num_hidden = sum(watched.num_hidden for watched in outcomes)
    hidden = f"not counted: {num_hidden} from end to end of a timing that nothing could show"
    num_misled = sum(throttle.found and throttle.fits is None for throttle in throttles)
    misled = f"not counted: {num_misled} whose evidence misleads"
    recall = of_share(RECALL, sum(throttle.found for throttle in throttles), len(throttles))
    accuracy = of_share(CAUSE_ACCURACY, sum(named), len(named))
    return (
        replace(recall, detail=recall.detail or hidden),
        _false_rate(outcomes),
        replace(accuracy, detail=accuracy.detail or misled),
        told(TIME_ERROR, words, error, len(errors)),
    )


CHECKS: tuple[Check, ...] = (
    Check(
        name="throttle",
        figures=(RECALL.name, FALSE_RATE.name, CAUSE_ACCURACY.name, TIME_ERROR),
        num_trials=_NUM_TRIALS,
        trial=trial,
        judge=judge,
    ),
)


def _outside(
    moments: Sequence[Moment], end_seconds: float, throttles: Sequence[TrueThrottle]
) -> list[bool]:
    """Return which samples are further from every throttle than one poll interval."""
    starts = np.array([moment.at_seconds for moment in moments])
    ends = np.append(starts[1:], end_seconds)
    guard_seconds = POLL_SECONDS + float(np.max(ends - starts))
    outside = np.ones(len(starts), dtype=bool)
    for throttle in throttles:
        outside &= (ends < throttle.start_seconds - guard_seconds) | (
            starts > throttle.end_seconds + guard_seconds
        )
    return [bool(each) for each in outside]


def _judged(throttle: TrueThrottle, events: Sequence[ThrottleEvent], case: Case) -> Judged:
    fitting = fitting_causes(throttle, case)
    seconds = throttle.end_seconds - throttle.start_seconds
    event = max(events, key=lambda each: _overlap_seconds(throttle, each), default=None)
    if event is None or _overlap_seconds(throttle, event) <= 0:
        return Judged(seconds, found=False, fits=None)
    errors = []
    if throttle.starts_inside:
        errors.append(abs(event.start_seconds - throttle.start_seconds))
    if throttle.ends_inside:
        errors.append(abs(event.end_seconds - throttle.end_seconds))
    fits = None if fitting is None else event.cause in fitting
    return Judged(seconds, found=True, fits=fits, errors_seconds=tuple(errors))


def _overlap_seconds(throttle: TrueThrottle, event: ThrottleEvent) -> float:
    start_seconds = max(throttle.start_seconds, event.start_seconds)
    return min(throttle.end_seconds, event.end_seconds) - start_seconds


def _false_rate(outcomes: Sequence[Watched]) -> Finding:
    """Return the share of samples flagged for nothing; samples of one run err together."""
    num_outside = np.array([watched.num_outside for watched in outcomes], dtype=float)
    num_flagged = np.array([watched.num_flagged for watched in outcomes], dtype=float)
    total = float(num_outside.sum())
    if not total:
        return skipped(FALSE_RATE, "no sample lay outside a throttle")
    rate = float(num_flagged.sum()) / total
    # A ratio of two sums over runs (Cochran 1977, section 2.11).
    half_width = _STANDARD_ERRORS * math.sqrt(
        float(np.sum((num_flagged - rate * num_outside) ** 2))
    )
    half_width /= total
    return of_interval(FALSE_RATE, rate, (rate - half_width, rate + half_width), int(total))
