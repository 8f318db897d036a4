"""The timing of one program: samples taken until the median is known well enough."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from moeprof.measure.median_interval import MedianIntervalRule
from moeprof.measure.readings import Readings, summary
from moeprof.measure.rejection import rejection
from moeprof.measure.throttle import known_of, throttling
from moeprof.record import Latency, Sample

if TYPE_CHECKING:
    from moeprof.conditioning.hold import Hold
    from moeprof.device.protocol import Device, Program
    from moeprof.measure.settings import StoppingSettings
    from moeprof.measure.stopping import StoppingRule
    from moeprof.measure.throttle_readings import Known
    from moeprof.record import DeviceState, Interval, ThrottleEvent

POLL_SECONDS = 0.02
PROGRESS_SECONDS = 1.0
# Unmeasured load: clocks rise again after a pause, and more slowly after long idling.
LEAD_IN_SECONDS = 0.1
RESUME_SECONDS = 0.005


class TimingProgress(Protocol):
    """Hears what is known so far, about every second of device time and once at the end."""

    def __call__(self, interval: Interval | None, state: DeviceState) -> None:
        """Take the interval of the median in seconds, None before the first kept sample."""


@dataclass(slots=True)
class _Log:
    """What has been taken so far; `stretches` holds, per sample, the index of its reading.

    `resumed` are the readings right after a pause, by index.
    """

    states: list[DeviceState] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    stretches: list[int] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    num_taken: int = 0


def measure_latency(
    device: Device,
    program: Program,
    settings: StoppingSettings,
    hold: Hold | None,
    *,
    undisturbed_hertz: float | None = None,
    on_progress: TimingProgress | None = None,
) -> tuple[Latency | None, Readings]:
    """Time a program, in seconds per launch; the latency is None where no sample was kept.

    Takes samples until the rule is finished, or until the budget of device time (pauses included)
    or of samples is spent, or the hold has lost its thermometer: `Readings.ended_by` says which.
    Each sample carries the last reading before it, at most about 20 ms old. `hold` pauses or heats
    between chunks of samples. `undisturbed_hertz` is the highest SM clock seen under load before,
    under the same settings; without it a throttle that lasts the whole timing may go unseen.

    Raises:
        DeviceLost: the device is gone.
        DeviceOutOfMemory: the program cannot go on.

    """
    rule = MedianIntervalRule(settings)
    log = _Log()
    if hold is None:
        program.run(LEAD_IN_SECONDS)
    start_seconds = told_seconds = device.now()
    ended_by = None
    while ended_by is None and not rule.is_finished():
        log.states.append(device.state())
        if hold is not None:
            kept = hold.keep(log.states[-1])
            if kept.problem is not None:
                ended_by = kept.problem
                break
            if kept.moved:
                program.run(RESUME_SECONDS)
                log.resumed.append(len(log.states))
                log.states.append(device.state())
        _take_chunk(device, program, settings, rule, log, hold)
        if device.now() - start_seconds >= settings.seconds_max:
            ended_by = f"the budget of {settings.seconds_max:g} s"
        elif log.num_taken >= settings.num_samples_max:
            ended_by = f"the budget of {settings.num_samples_max} samples"
        if on_progress is not None and device.now() - told_seconds >= PROGRESS_SECONDS:
            told_seconds = device.now()
            on_progress(rule.interval() if log.samples else None, log.states[-1])
    log.states.append(device.state())
    if on_progress is not None:
        on_progress(rule.interval() if log.samples else None, log.states[-1])
    known = known_of(device, undisturbed_hertz)
    return _summed_up(log, rule, program.launches_per_sample, ended_by, known)


def _take_chunk(
    device: Device,
    program: Program,
    settings: StoppingSettings,
    rule: StoppingRule,
    log: _Log,
    hold: Hold | None,
) -> None:
    """Take samples until the last reading is old, at least one."""
    state, stretch = log.states[-1], len(log.states) - 1
    hold_settings = None if hold is None else hold.settings
    end_seconds = device.now() + POLL_SECONDS
    while True:
        latency_seconds = program.sample()
        log.num_taken += 1
        sample = Sample(latency_seconds, state.die_celsius, state.sm_clock_hertz, state.watts)
        if reason := rejection(sample, hold_settings):
            log.rejected[reason] += 1
        else:
            log.samples.append(sample)
            log.stretches.append(stretch)
            rule.add(latency_seconds)
        if (
            device.now() >= end_seconds
            or log.num_taken >= settings.num_samples_max
            or rule.is_finished()
        ):
            return


def _summed_up(
    log: _Log,
    rule: StoppingRule,
    launches_per_sample: int,
    ended_by: str | None,
    known: Known,
) -> tuple[Latency | None, Readings]:
    found = throttling(log.states, known, log.resumed)
    throttles = [found.stretches[stretch] for stretch in log.stretches]
    throttled = [throttle is not None for throttle in throttles]
    rejected = dict(log.rejected)
    if not log.samples:
        return None, summary(log.states, throttled, rejected, ended_by, found.events)
    interval = rule.interval()
    if rule.conclude():
        ended_by = None  # narrow enough, between two looks of the rule
    latencies = np.array([sample.latency_seconds for sample in log.samples])
    p10, p90, p99 = np.quantile(latencies, [0.1, 0.9, 0.99]).tolist()
    samples = tuple(
        sample if throttle is None else _flagged(sample, throttle)
        for sample, throttle in zip(log.samples, throttles, strict=True)
    )
    latency = Latency(
        median=interval,
        p10_seconds=p10,
        p90_seconds=p90,
        p99_seconds=p99,
        samples=samples,
        num_launches=len(samples) * launches_per_sample,
        num_rejected=log.rejected.total(),
    )
    return latency, summary(log.states, throttled, rejected, ended_by, found.events)


def _flagged(sample: Sample, throttle: ThrottleEvent) -> Sample:
    return replace(sample, throttled=True, throttle_cause=throttle.cause)
