from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import FakeDevice, FakeProgram

from moeprof.conditioning.hold import reach_temperature
from moeprof.conditioning.settings import HoldSettings
from moeprof.conditioning.warm_up import WarmUp
from moeprof.errors import DeviceLost
from moeprof.measure.background import Background
from moeprof.measure.idle import IdlePower
from moeprof.measure.settings import EnergySettings, StoppingSettings
from moeprof.measure.static_power import StaticPower
from moeprof.measure.trial import measure_point
from moeprof.record import Interval, Outcome, Status

STATIC = StaticPower(
    Interval(80.0, 79.0, 81.0, 0.95), 70.0, None, {"watts_per_celsius": "it cooled too little"}
)
BACKGROUND = Background(
    rest=IdlePower(Interval(60.0, 59.0, 61.0, 0.95), die_celsius=30.0), static=STATIC
)


def outcome(device: FakeDevice, hold: Any = None, **more: Any) -> Outcome:
    return measure_point(
        device,
        more.pop("program", FakeProgram(device)),
        stopping=more.pop("stopping", StoppingSettings()),
        energy=EnergySettings(),
        hold=hold,
        warm_up=WarmUp(300.0, True, 120.0, "steady"),
        background=more.pop("background", BACKGROUND),
        l2_state="cold",
    )


def test_a_point_that_goes_well_is_ok_and_has_its_condition() -> None:
    device = FakeDevice(celsius=70.0)
    found = outcome(device)

    assert found.status is Status.OK
    assert found.detail is None
    assert found.latency is not None
    assert found.energy is not None
    assert found.energy.per_launch is not None
    assert found.condition is not None
    assert found.condition.die_celsius == 70
    assert found.condition.sm_clock_hertz == found.condition.sm_clock_hertz_min == 1.98e9
    assert found.condition.throttled_fraction == 0
    assert found.condition.warm_up_steady is True
    assert found.condition.idle_watts == 80.0
    assert found.condition.idle_celsius == 70.0


def test_the_joules_of_a_launch_are_divided_into_idle_leakage_and_work() -> None:
    energy = outcome(FakeDevice(celsius=70.0)).energy

    assert energy is not None
    assert energy.per_launch is not None
    assert energy.parts is not None
    assert energy.parts.idle is not None
    assert energy.parts.leakage is not None
    assert energy.parts.dynamic is not None
    parts = (energy.parts.idle, energy.parts.leakage, energy.parts.dynamic)
    assert sum(part.estimate for part in parts) == pytest.approx(energy.per_launch.estimate)
    assert energy.parts.idle.estimate / energy.parts.leakage.estimate == pytest.approx(3)


def test_static_power_of_another_temperature_is_carried_over_by_its_slope_or_not_at_all() -> None:
    slope = Interval(1.0, 0.9, 1.1, 0.95)
    sloped = replace(BACKGROUND, static=replace(STATIC, watts_per_celsius=slope, absent={}))

    moved, near, far = sloped.static_at(60.0), BACKGROUND.static_at(69), BACKGROUND.static_at(60)

    assert moved is not None
    assert moved.watts is not None
    assert moved.watts.estimate == pytest.approx(70.0)
    assert moved.watts.high - moved.watts.low == pytest.approx(2 * (1 + 1 + 0.25) ** 0.5)
    assert near is not None
    assert near.watts is not None
    assert near.watts.estimate == 80.0
    assert near.watts.high > 81.0
    assert far is not None
    assert far.watts is None
    assert "10.0 C away" in far.absent["watts"]


def test_a_point_out_of_budget_is_imprecise_and_says_how_imprecise() -> None:
    device = FakeDevice()
    program = FakeProgram(device, latencies=iter([1e-4, 2e-4] * 1000))
    found = outcome(device, program=program, stopping=StoppingSettings(seconds_max=0.5))

    assert found.status is Status.IMPRECISE
    assert found.latency is not None
    assert "% was asked" in (found.detail or "")
    assert "0.5 s" in (found.detail or "")


def test_a_hold_that_was_not_reached_is_measured_and_says_how_near_it_came() -> None:
    device = FakeDevice(time_constant_seconds=3)
    hold = reach_temperature(device, FakeProgram(device), HoldSettings(100))
    found = outcome(device, hold)

    assert found.status is Status.TEMPERATURE_NOT_REACHED
    assert "100 °C was not reached" in (found.detail or "")
    assert found.latency is not None
    assert found.condition is not None
    assert found.condition.hold_celsius == 100


def test_a_hold_that_was_reached_is_kept_while_the_point_is_measured() -> None:
    device = FakeDevice(time_constant_seconds=5)
    hold = reach_temperature(device, FakeProgram(device), HoldSettings(50))
    found = outcome(device, hold)

    assert found.status is Status.OK
    assert found.condition is not None
    assert found.condition.die_celsius == pytest.approx(50, abs=1)


def test_a_thermometer_lost_under_a_hold_ends_the_timing_with_the_reason() -> None:
    device = FakeDevice(time_constant_seconds=5)
    hold = reach_temperature(device, FakeProgram(device), HoldSettings(50))
    device.edit = lambda reading, at: reading.update(die_celsius=None)
    found = outcome(device, hold)

    assert found.status is Status.TEMPERATURE_NOT_REACHED
    assert found.latency is None
    assert "lost" in (found.detail or "")


def test_a_lost_device_is_for_the_caller() -> None:
    device = FakeDevice()

    class LostProgram(FakeProgram):
        def sample(self) -> float:
            raise DeviceLost("gone")

    with pytest.raises(DeviceLost):
        outcome(device, program=LostProgram(device))
