from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeDevice, FakeProgram

from moeprof.conditioning.settings import WarmUpSettings
from moeprof.conditioning.steady import quantum_of, slope
from moeprof.conditioning.warm_up import warm_up

SECONDS = np.arange(0.0, 60.0, 0.25)
BOUND_PER_SECOND = 0.2 / 60


def test_a_flat_series_is_shown_to_be_steady() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, len(SECONDS))
    found = slope(SECONDS, 50 + noise)

    assert found is not None
    assert found.is_within(BOUND_PER_SECOND)


def test_a_drifting_series_is_not_steady() -> None:
    found = slope(SECONDS, 50 + SECONDS * 2 * BOUND_PER_SECOND)

    assert found is not None
    assert not found.is_within(BOUND_PER_SECOND)
    assert found.estimate_per_second == pytest.approx(2 * BOUND_PER_SECOND)


def test_a_noisy_series_is_not_called_steady_for_want_of_evidence() -> None:
    noise = np.random.default_rng(1).normal(0, 5, len(SECONDS))
    found = slope(SECONDS, 50 + noise)

    assert found is not None
    assert not found.is_within(BOUND_PER_SECOND)


def test_a_constant_rounded_reading_does_not_prove_a_slope_that_it_would_hide() -> None:
    rounded = np.full(len(SECONDS), 50.0)
    exact = slope(SECONDS, rounded)
    honest = slope(SECONDS, rounded, quantum=1.0)

    assert exact is not None
    assert honest is not None
    assert exact.is_within(BOUND_PER_SECOND)
    assert not honest.is_within(BOUND_PER_SECOND)


def test_seven_values_are_too_few() -> None:
    assert slope(SECONDS[:7], SECONDS[:7]) is None


def test_the_step_of_a_sensor_is_seen_in_its_readings() -> None:
    assert quantum_of(np.array([50.0, 51.0, 51.0, 51.0, 52.0, 52.0, 52.0])) == 1.0
    assert quantum_of(np.random.default_rng(1).normal(50, 1, 100)) == 0.0


@pytest.mark.parametrize("quantum", [0.0, 1.0])
@pytest.mark.parametrize(
    ("time_constant_seconds", "steady"),
    [(5, True), (20, True), (40, True), (80, False), (300, False)],
)
def test_a_warm_up_says_whether_it_was_long_enough(
    time_constant_seconds: float,
    steady: bool,  # noqa: FBT001
    quantum: float,
) -> None:
    device = FakeDevice(time_constant_seconds=time_constant_seconds, quantum=quantum)
    found = warm_up(device, FakeProgram(device), WarmUpSettings())

    assert found.steady is steady
    assert (found.steady_after_seconds is not None) is steady
    assert found.seconds == pytest.approx(300, abs=0.1)
    assert found.seconds <= 300.001


def test_a_warm_up_says_when_it_had_become_steady() -> None:
    device = FakeDevice(time_constant_seconds=30)
    found = warm_up(device, FakeProgram(device), WarmUpSettings())

    # 40 C / 30 s * exp(-t / 30 s) = 0.2 C/min
    assert found.steady_after_seconds == pytest.approx(30 * np.log(40 / 30 * 60 / 0.2), abs=10)


def test_a_latency_that_drifts_is_not_steady() -> None:
    device = FakeDevice(time_constant_seconds=5)
    rising = (100e-6 * (1 + 0.0001 * index) for index in range(10_000))
    found = warm_up(device, FakeProgram(device, latencies=rising), WarmUpSettings())

    assert found.steady is False
    assert "latency drifts +" in found.detail


def test_a_warm_up_of_no_time_does_nothing() -> None:
    device = FakeDevice()
    found = warm_up(device, FakeProgram(device), WarmUpSettings(warm_up_seconds=0))

    assert found.seconds == 0
    assert found.steady is None
    assert device.seconds == 0


def test_a_warm_up_tells_its_progress_each_second() -> None:
    device = FakeDevice()
    told: list[float] = []
    warm_up(
        device,
        FakeProgram(device),
        WarmUpSettings(warm_up_seconds=20),
        on_progress=lambda done, _: told.append(done),
    )

    assert 20 <= len(told) <= 22
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0, abs=0.01)


def test_where_no_sensor_speaks_only_latency_is_tested() -> None:
    def silent(reading: dict[str, object], at: float) -> None:
        reading.update(die_celsius=None, sm_clock_hertz=None)

    device = FakeDevice(edit=silent)
    found = warm_up(device, FakeProgram(device), WarmUpSettings(warm_up_seconds=60))
    short = warm_up(device, FakeProgram(device), WarmUpSettings(warm_up_seconds=2))

    assert found.steady is True
    assert "temperature" not in found.detail
    assert short.steady is None
