"""Claims about what the readings of a sensor tell of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fakes import FakeDevice, FakeProgram
from measure.sensor_traces import LOAD_WATTS, PHASES, energy_stream, polls, power_stream

from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.truth import truth_of
from moeprof.hardware import catalogue
from moeprof.measure.sensor.characterise import characterise_sensors
from moeprof.measure.sensor.figures import NO_LOAD, PAUSED, SensorFigures, describe_sensors
from moeprof.measure.sensor.fit import Fitted
from moeprof.measure.sensor.stream import Quantity, Recording, SensorStream
from moeprof.selfcheck.work import decode_work

if TYPE_CHECKING:
    from moeprof.device.protocol import Program

GPU = catalogue.gpu("h200-sxm")


def simulated(**changes: float) -> SimulatedDevice:
    return SimulatedDevice(GPU, replace(truth_of(GPU), **changes), seed=1)


def loaded(device: SimulatedDevice) -> Program:
    return device.prepare(decode_work(truth_of(GPU), launch_seconds=200e-6))


def figures(stream: SensorStream, *, load_known: bool = True) -> SensorFigures:
    return describe_sensors(Recording((stream,), PHASES if load_known else None)).sensors[0]


@pytest.mark.parametrize("period_seconds", [0.02, 0.0333, 0.1])
def test_the_period_is_found_under_jitter_and_dropped_reads(period_seconds: float) -> None:
    at_seconds = polls(dropped_fraction=0.2)
    for stream in (
        power_stream(period_seconds=period_seconds, at_seconds=at_seconds),
        energy_stream(period_seconds=period_seconds, at_seconds=at_seconds),
    ):
        found = figures(stream, load_known=False)

        assert found.period_seconds == pytest.approx(period_seconds, rel=0.001)


def test_values_that_repeat_by_chance_do_not_lengthen_the_period() -> None:
    stream = power_stream(step_watts=140.0)
    num_changes = int(np.sum(np.diff(stream.values) != 0))
    found = figures(stream, load_known=False)

    assert num_changes < 90  # of 110 updates
    assert found.period_seconds == pytest.approx(0.1, rel=0.001)


@pytest.mark.parametrize("window_seconds", [0.01, 0.025, 0.1, 0.15])
@pytest.mark.parametrize("lag_seconds", [0.0, 0.05])
def test_window_and_lag_are_found(window_seconds: float, lag_seconds: float) -> None:
    found = figures(power_stream(window_seconds=window_seconds, lag_seconds=lag_seconds))

    assert found.window_seconds == pytest.approx(window_seconds, abs=0.001)
    assert found.lag_seconds == pytest.approx(lag_seconds, abs=0.001)


def test_a_noisy_sensors_intervals_hold_its_window_and_lag() -> None:
    found = figures(power_stream(window_seconds=0.025, lag_seconds=0.03, noise_watts=5.0))

    assert found.window_seconds is not None
    assert found.window_error_seconds is not None
    assert abs(found.window_seconds - 0.025) <= found.window_error_seconds < 0.01
    assert found.lag_seconds is not None
    assert found.lag_error_seconds is not None
    assert abs(found.lag_seconds - 0.03) <= found.lag_error_seconds < 0.01


@pytest.mark.parametrize("lag_seconds", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("period_seconds", [0.02, 0.1])
def test_the_lag_of_a_counter_is_found(period_seconds: float, lag_seconds: float) -> None:
    found = figures(energy_stream(period_seconds=period_seconds, lag_seconds=lag_seconds))

    assert found.lag_seconds == pytest.approx(lag_seconds, abs=0.001)
    assert found.window_seconds is None
    assert "window_seconds" not in found.absent


def test_power_and_counter_agree_on_the_joules_of_a_launch() -> None:
    true_joules = LOAD_WATTS * sum(p.end_seconds - p.start_seconds for p in PHASES) / 4000
    for stream in (power_stream(lag_seconds=0.03), energy_stream(period_seconds=0.02)):
        found = figures(stream)

        assert found.launch_joules == pytest.approx(true_joules, rel=0.01)
        assert found.load_watts == pytest.approx(LOAD_WATTS, rel=0.01)


def test_without_the_load_only_the_period_is_told() -> None:
    found = figures(power_stream(), load_known=False)

    assert found.period_seconds is not None
    assert found.window_seconds is None
    assert found.absent["window_seconds"] == found.absent["lag_seconds"] == NO_LOAD


def test_a_sensor_polled_too_slowly_is_not_guessed_at() -> None:
    slow = power_stream(period_seconds=0.02, at_seconds=polls(poll_seconds=0.05))
    found = figures(slow)

    assert found.period_seconds is None
    assert found.window_seconds is None
    assert "as fast as it was polled" in found.absent["period_seconds"]


def test_a_sensor_that_stands_still_is_not_guessed_at() -> None:
    at_seconds = polls()
    found = figures(SensorStream("stuck", Quantity.POWER, at_seconds, np.full(len(at_seconds), 7)))

    assert found.period_seconds is None
    assert "only 0 changes" in found.absent["lag_seconds"]


def test_readings_of_another_load_give_no_window() -> None:
    stream = power_stream()
    strange = np.random.default_rng(3).permutation(np.unique(stream.at_seconds // 0.1)).astype(int)
    values = np.unique(stream.at_seconds // 0.1, return_inverse=True)[1]
    shuffled = 100.0 + strange[values]
    found = figures(SensorStream("power", Quantity.POWER, stream.at_seconds, shuffled))

    assert found.period_seconds == pytest.approx(0.1, rel=0.001)
    assert found.window_seconds is None
    assert found.absent["window_seconds"]


def test_a_live_device_is_characterised_by_switching_its_load() -> None:
    device = FakeDevice(tick_seconds=0.05)
    report = characterise_sensors(device, FakeProgram(device))
    counter = report.of(Quantity.ENERGY)
    power = report.of(Quantity.POWER)

    assert counter is not None
    assert counter.period_seconds == pytest.approx(0.05, rel=0.001)
    assert counter.lag_seconds == pytest.approx(0.0, abs=0.001)
    assert counter.launch_joules is None  # the load paused for every reading
    assert counter.absent["launch_joules"] == counter.absent["load_watts"] == PAUSED
    assert power is not None
    assert "changes" in power.absent["period_seconds"]  # this device's reading never moves
    assert device.seconds < 15


@pytest.mark.parametrize("window_seconds", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("read_seconds", [20e-6, 1e-3, 3e-3])
def test_a_slow_average_is_found_however_long_a_read_takes(
    window_seconds: float, read_seconds: float
) -> None:
    device = simulated(power_window_seconds=window_seconds, state_read_seconds=read_seconds)
    power = characterise_sensors(device, loaded(device)).of(Quantity.POWER)

    assert power is not None
    assert power.window_seconds == pytest.approx(window_seconds, rel=0.05)
    assert power.lag_seconds == pytest.approx(0.1, abs=0.005)
    assert power.window_error_seconds is not None
    assert abs(power.window_seconds - window_seconds) <= power.window_error_seconds
    assert device.now() < 15


@pytest.mark.parametrize(
    "changes",
    [{"power_window_seconds": 3.0}, {"power_lag_seconds": 0.6, "power_window_seconds": 0.1}],
)
def test_what_no_sensor_has_is_refused(changes: dict[str, float]) -> None:
    device = simulated(**changes)
    power = characterise_sensors(device, loaded(device)).of(Quantity.POWER)

    assert power is not None
    assert power.window_seconds is power.lag_seconds is None
    assert power.absent["window_seconds"]
    assert power.absent["lag_seconds"]


def test_a_lag_beyond_the_bounds_is_refused_with_them() -> None:
    found = figures(power_stream(lag_seconds=0.31))

    assert found.window_seconds is found.lag_seconds is None
    assert found.absent["lag_seconds"] == "no lag between -20 and 300 ms fits the readings"


def test_a_fit_whose_error_is_no_number_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    unsure = Fitted(0.025, math.nan, 0.03, math.nan)
    monkeypatch.setattr("moeprof.measure.sensor.figures.fit_window_and_lag", lambda *_: unsure)
    found = figures(power_stream())

    assert found.window_seconds is found.lag_seconds is None


def test_a_device_without_a_counter_still_has_its_power_reading_characterised() -> None:
    device = FakeDevice()
    device.energy_counter = None
    report = characterise_sensors(device, FakeProgram(device))

    assert [sensor.quantity for sensor in report.sensors] == [Quantity.POWER]
