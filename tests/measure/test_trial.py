from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeDevice, FakeProgram

from moeprof.conditioning.hold import reach_temperature
from moeprof.conditioning.settings import HoldSettings
from moeprof.conditioning.warm_up import WarmUp
from moeprof.errors import DeviceLost
from moeprof.measure.settings import EnergySettings, StoppingSettings
from moeprof.measure.trial import measure_point
from moeprof.record import Outcome, Status


def outcome(device: FakeDevice, hold: Any = None, **more: Any) -> Outcome:
    return measure_point(
        device,
        more.pop("program", FakeProgram(device)),
        stopping=more.pop("stopping", StoppingSettings()),
        energy=EnergySettings(),
        hold=hold,
        warm_up=WarmUp(300.0, True, 120.0, "steady"),
        idle_watts=80.0,
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
