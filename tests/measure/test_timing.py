from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import pytest
from fakes import FakeDevice, FakeProgram

from moeprof.conditioning.hold import reach_temperature
from moeprof.conditioning.settings import HoldSettings
from moeprof.measure.rejection import NO_TEMPERATURE, OFF_TEMPERATURE, rejection
from moeprof.measure.settings import StoppingSettings
from moeprof.measure.throttle import throttling, union_of_events
from moeprof.measure.timing import measure_latency
from moeprof.record import ClockEvent, DeviceState, Sample

NOISY = StoppingSettings(relative_half_width_fraction=1e-6, seconds_max=1.0)
NOISE = np.exp(np.random.default_rng(1).normal(0, 0.1, 5000)).tolist()


def measured(device: FakeDevice, settings: StoppingSettings = NOISY, **more: Any) -> Any:
    program = FakeProgram(device, latencies=cycle(1e-4 * noise for noise in NOISE))
    return measure_latency(device, program, settings, more.pop("hold", None), **more)


def test_timing_ends_when_the_interval_is_narrow_enough() -> None:
    latency, readings = measured(FakeDevice(), StoppingSettings())

    assert readings.ended_by is None
    assert latency.median.relative_half_width_fraction <= 0.01
    assert latency.median.low <= 1e-4 <= latency.median.high
    assert latency.num_launches == 10 * len(latency.samples)
    assert latency.p10_seconds < latency.median.estimate < latency.p90_seconds < latency.p99_seconds


def test_the_budget_of_time_or_samples_ends_a_timing_and_is_named() -> None:
    _, by_time = measured(FakeDevice())
    latency, by_count = measured(
        FakeDevice(), StoppingSettings(relative_half_width_fraction=1e-6, num_samples_max=100)
    )

    assert by_time.ended_by == "the budget of 1 s"
    assert by_count.ended_by == "the budget of 100 samples"
    assert len(latency.samples) == 100


def test_sensors_are_read_every_20_milliseconds_at_most() -> None:
    device = FakeDevice()
    latency, _ = measured(device)

    assert len(latency.samples) == pytest.approx(1000, abs=25)
    assert device.num_states <= 55


def test_throttled_samples_are_flagged_and_kept() -> None:
    def throttle(reading: dict[str, Any], at: float) -> None:
        if 0.5 <= at < 0.8:
            reading.update(clock_events=frozenset({ClockEvent.SW_POWER_CAP}), sm_clock_hertz=1.7e9)

    latency, readings = measured(FakeDevice(edit=throttle))

    assert readings.throttled_fraction == pytest.approx(0.32, abs=0.05)
    assert sum(sample.throttled for sample in latency.samples) > 290
    assert readings.clock_events == {ClockEvent.SW_POWER_CAP}
    assert latency.num_rejected == 0


def test_a_counter_shows_throttling_between_two_readings() -> None:
    states = [
        DeviceState(0.0, throttle_seconds={ClockEvent.SW_THERMAL_SLOWDOWN: 1.0}),
        DeviceState(0.1, throttle_seconds={ClockEvent.SW_THERMAL_SLOWDOWN: 1.0}),
        DeviceState(0.2),
        DeviceState(0.3, throttle_seconds={ClockEvent.SW_THERMAL_SLOWDOWN: 1.01}),
    ]

    assert [event is not None for event in throttling(states).stretches] == [
        False,
        True,
        True,
        False,
    ]
    assert union_of_events(states) == {ClockEvent.SW_THERMAL_SLOWDOWN}


def test_a_clock_far_below_the_highest_seen_is_throttling_unless_idle() -> None:
    idle = frozenset({ClockEvent.IDLE})
    states = [
        DeviceState(0.0, sm_clock_hertz=0.3e9, clock_events=idle),
        DeviceState(0.1, sm_clock_hertz=1.98e9),
        DeviceState(0.2, sm_clock_hertz=1.965e9),
        DeviceState(0.3, sm_clock_hertz=1.7e9),
    ]

    assert [event is not None for event in throttling(states).stretches] == [
        False,
        False,
        True,
        True,
    ]


def test_a_device_without_clock_sensors_has_no_throttled_fraction() -> None:
    def silent(reading: dict[str, Any], at: float) -> None:
        reading.update(sm_clock_hertz=None, clock_events=None)

    _, readings = measured(FakeDevice(edit=silent))

    assert readings.throttled_fraction is None
    assert readings.clock_events is None
    assert readings.sm_clock_hertz is None


def test_a_rejection_has_a_name() -> None:
    hold = HoldSettings(50.0)

    assert rejection(Sample(1e-4, die_celsius=50.9), hold) is None
    assert rejection(Sample(1e-4, die_celsius=51.5), hold) == OFF_TEMPERATURE
    assert rejection(Sample(1e-4), hold) == NO_TEMPERATURE
    assert rejection(Sample(1e-4), None) is None
    assert rejection(Sample(float("nan")), None) is not None


def test_samples_outside_the_tolerance_are_counted_not_kept() -> None:
    def jump(reading: dict[str, Any], at: float) -> None:
        if at > 10 and int(at * 10) % 2:
            reading["die_celsius"] -= 1.5

    device = FakeDevice(time_constant_seconds=3)
    program = FakeProgram(device)
    hold = reach_temperature(device, program, HoldSettings(50, settle_seconds=5))
    device.edit = jump
    latency, readings = measured(device, hold=hold)

    assert latency.num_rejected == sum(readings.num_rejected.values())
    assert all(abs(sample.die_celsius - 50) <= 1 for sample in latency.samples)


def test_a_held_die_is_still_at_its_temperature_when_the_timing_ends() -> None:
    device = FakeDevice(time_constant_seconds=5)
    hold = reach_temperature(device, FakeProgram(device), HoldSettings(50))
    latency, readings = measured(device, hold=hold)

    assert readings.die_celsius == pytest.approx(50, abs=1)
    assert device.celsius == pytest.approx(50, abs=1)
    assert len(latency.samples) > 300


def test_progress_is_told_each_second_and_at_the_end() -> None:
    told: list[Any] = []
    settings = StoppingSettings(relative_half_width_fraction=1e-6, seconds_max=3.5)
    measured(FakeDevice(), settings, on_progress=lambda interval, state: told.append(interval))

    assert len(told) == 4
    assert told[-1].confidence == 0.95
