from __future__ import annotations

from collections import deque

import pytest
from fakes import FakeDevice, FakeProgram

from moeprof.conditioning.hold import Hold, reach_temperature
from moeprof.conditioning.regulator import Regulator
from moeprof.conditioning.settings import HoldSettings
from moeprof.record import DeviceState


def held(device: FakeDevice, hold_celsius: float) -> Hold:
    hold = reach_temperature(device, FakeProgram(device), HoldSettings(hold_celsius))

    assert hold.report.reached
    return hold


def windows(device: FakeDevice, hold: Hold, num_windows: int) -> tuple[list[float], list[float]]:
    """Return the true temperatures and the lengths of uninterrupted windows of load."""
    truth, lengths = [], []
    for _ in range(num_windows):
        assert hold.make_room().problem is None
        start_seconds = device.now()
        too_hot = False
        while not too_hot and device.now() - start_seconds < 5:
            truth.append(device.celsius)
            FakeProgram(device).run(0.05)
            too_hot = hold.is_too_hot(device.state())
        truth.append(device.celsius)
        lengths.append(device.now() - start_seconds)
    return truth, lengths


@pytest.mark.parametrize(("quantum", "edge"), [(1.0, 50.5), (0.1, 50.7)])
def test_what_is_held_is_the_edge_of_the_reading_or_the_set_point_itself(
    quantum: float, edge: float
) -> None:
    device = FakeDevice(quantum=quantum)
    hold = held(device, 50.7)
    truth = []
    for _ in range(200):
        hold.keep()
        FakeProgram(device).run(0.02)
        truth.append(device.celsius)

    assert sum(truth) / len(truth) == pytest.approx(edge, abs=0.1)
    assert max(truth) - min(truth) < 0.2


@pytest.mark.parametrize("time_constant_seconds", [5, 20, 100])
@pytest.mark.parametrize("hold_celsius", [50.0, 50.25, 50.5, 50.75])
def test_long_windows_of_load_stay_within_the_tolerance(
    time_constant_seconds: float, hold_celsius: float
) -> None:
    device = FakeDevice(time_constant_seconds=time_constant_seconds)
    truth, lengths = windows(device, held(device, hold_celsius), 8)

    assert max(abs(celsius - hold_celsius) for celsius in truth) <= 1.0
    assert min(lengths) > 0.6 * time_constant_seconds / 40


def test_a_die_that_was_at_its_set_point_from_the_start_gets_long_windows_too() -> None:
    device = FakeDevice(time_constant_seconds=100, celsius=50.4)
    truth, lengths = windows(device, held(device, 50.5), 4)

    assert max(abs(celsius - 50.5) for celsius in truth) <= 1.0
    assert min(lengths) > 1.0


def test_a_dropped_reading_does_not_let_the_die_run_off() -> None:
    device = FakeDevice(time_constant_seconds=5)
    hold = held(device, 50.0)
    hold.make_room()
    while not hold.is_too_hot(DeviceState(at_seconds=device.now())):
        FakeProgram(device).run(0.05)

    assert device.celsius <= 51.0


@pytest.mark.parametrize("time_constant_seconds", [20, 60])
def test_a_sensor_that_is_a_second_late_does_not_make_the_die_swing(
    time_constant_seconds: float,
) -> None:
    past: deque[tuple[float, float]] = deque()
    device = FakeDevice(time_constant_seconds=time_constant_seconds)

    def late(reading: dict[str, object], at: float) -> None:
        past.append((at, device.celsius))
        while len(past) > 1 and past[1][0] <= at - 1.0:
            past.popleft()
        reading["die_celsius"] = float(round(past[0][1]))

    device.edit = late
    hold = held(device, 50.5)
    truth = []
    for _ in range(1000):
        hold.keep()
        FakeProgram(device).run(0.02)
        truth.append(device.celsius)

    assert max(abs(celsius - 50.5) for celsius in truth) <= 1.0


def test_readings_at_one_moment_are_taken_in() -> None:
    regulator = Regulator(50.0)
    for celsius in (49.0, 51.0, 49.0, 51.0):
        regulator.note(1.0, celsius, loaded=True)

    assert 50.5 <= regulator.celsius <= 51.5
