from __future__ import annotations

import pytest
from fakes import FakeDevice, FakeProgram

from moeprof.conditioning.hold import reach_temperature
from moeprof.conditioning.settings import HoldSettings
from moeprof.errors import ConditioningError


def no_sensor(reading: dict[str, object], at: float) -> None:
    reading["die_celsius"] = None


@pytest.mark.parametrize("time_constant_seconds", [3, 20, 100])
@pytest.mark.parametrize("hold_celsius", [36, 50, 64])
def test_a_held_die_stays_within_the_tolerance_while_samples_heat_it(
    time_constant_seconds: float, hold_celsius: float
) -> None:
    device = FakeDevice(time_constant_seconds=time_constant_seconds)
    program = FakeProgram(device)
    hold = reach_temperature(device, program, HoldSettings(hold_celsius))
    truth = []
    for _ in range(300):
        assert hold.keep().problem is None
        for _ in range(20):
            program.sample()
        truth.append(device.celsius)

    assert hold.report.reached
    assert hold.report.detail is None
    assert max(abs(celsius - hold_celsius) for celsius in truth) <= 1.0
    assert hold.report.duty_fraction == pytest.approx((hold_celsius - 30) / 40, abs=0.05)


def test_a_device_that_is_too_hot_idles_down_to_the_set_point() -> None:
    device = FakeDevice(celsius=70.0)
    hold = reach_temperature(device, FakeProgram(device), HoldSettings(45))

    assert hold.report.reached
    assert device.celsius == pytest.approx(45, abs=1)


@pytest.mark.parametrize("time_constant_seconds", [3, 30, 100])
def test_a_set_point_above_full_load_is_refused_before_the_time_is_over(
    time_constant_seconds: float,
) -> None:
    device = FakeDevice(time_constant_seconds=time_constant_seconds)
    report = reach_temperature(device, FakeProgram(device), HoldSettings(80)).report

    assert not report.reached
    assert report.seconds < 400
    assert report.detail is not None
    assert "80 °C was not reached" in report.detail
    assert "full load does not heat it enough" in report.detail
    assert report.celsius is not None
    assert report.error_celsius == pytest.approx(report.celsius - 80)


def test_a_set_point_below_idle_is_refused() -> None:
    device = FakeDevice(celsius=45.0)
    report = reach_temperature(device, FakeProgram(device), HoldSettings(20)).report

    assert not report.reached
    assert "idling cools too little" in (report.detail or "")


def test_the_time_allowed_is_kept() -> None:
    device = FakeDevice(time_constant_seconds=3000)
    report = reach_temperature(device, FakeProgram(device), HoldSettings(36, seconds_max=20)).report

    assert not report.reached
    assert report.seconds <= 21


def test_a_hold_without_a_sensor_is_refused_with_a_hint() -> None:
    device = FakeDevice(edit=no_sensor)

    with pytest.raises(ConditioningError, match="cannot hold 50 °C") as caught:
        reach_temperature(device, FakeProgram(device), HoldSettings(50))
    assert caught.value.hint


def test_a_sensor_that_fails_on_the_way_is_the_reason_why() -> None:
    device = FakeDevice(edit=lambda reading, at: no_sensor(reading, at) if at > 5 else None)
    report = reach_temperature(device, FakeProgram(device), HoldSettings(60)).report

    assert not report.reached
    assert "lost" in (report.detail or "")


def test_a_reading_dropped_now_and_then_does_no_harm() -> None:
    device = FakeDevice()

    def drop(reading: dict[str, object], at: float) -> None:
        if device.num_states % 7 == 0:
            reading["die_celsius"] = None

    device.edit = drop
    hold = reach_temperature(device, FakeProgram(device), HoldSettings(50))

    assert hold.report.reached


def test_keeping_a_temperature_is_bounded_in_time() -> None:
    device = FakeDevice()
    hold = reach_temperature(device, FakeProgram(device), HoldSettings(50))
    device.celsius, device.time_constant_seconds = 69.0, 1000.0
    before = device.now()
    kept = hold.keep()

    assert kept.moved
    assert device.now() - before <= 5.1


def test_a_new_process_goes_on_from_the_readings_alone() -> None:
    device = FakeDevice()
    program = FakeProgram(device)
    reach_temperature(device, program, HoldSettings(50))
    again = reach_temperature(device, program, HoldSettings(50)).report

    assert again.reached
    assert again.seconds < 70


def test_progress_is_told_each_second() -> None:
    device = FakeDevice()
    told: list[float] = []
    report = reach_temperature(
        device,
        FakeProgram(device),
        HoldSettings(50),
        on_progress=lambda done, _: told.append(done),
    ).report

    assert report.seconds * 0.7 <= len(told) <= report.seconds + 1
    assert all(0 <= done <= 1 for done in told)
