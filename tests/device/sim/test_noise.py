"""Claims about how simulated samples scatter."""

from __future__ import annotations

import statistics

import pytest
from device.sim import bench

from moeprof.device.sim.timing import launch_cost

NUM_SAMPLES = 5000


def samples(**changes: float) -> list[float]:
    program = bench.device(bench.quiet_truth(**changes)).prepare(bench.work())
    return [program.sample() for _ in range(NUM_SAMPLES)]


def true_seconds() -> float:
    truth = bench.quiet_truth()
    return launch_cost(truth, bench.work()).seconds(truth.sm_clock_hertz_max, 40.0)


def test_samples_without_noise_all_take_the_true_time() -> None:
    assert samples() == pytest.approx([true_seconds()] * NUM_SAMPLES)


def test_samples_scatter_as_much_as_the_truth_says() -> None:
    values = samples(noise_fraction=0.01)

    assert statistics.mean(values) == pytest.approx(true_seconds(), rel=0.002)
    assert statistics.stdev(values) == pytest.approx(0.01 * true_seconds(), rel=0.1)


@pytest.mark.parametrize("carry_fraction", [0.0, 0.6])
def test_neighbouring_samples_are_alike(carry_fraction: float) -> None:
    values = samples(noise_fraction=0.01, noise_carry_fraction=carry_fraction)

    correlation = statistics.correlation(values[:-1], values[1:])

    assert correlation == pytest.approx(carry_fraction, abs=0.06)


def test_outliers_are_as_many_and_as_slow_as_the_truth_says() -> None:
    values = samples(outliers_fraction=0.02, outlier_extra_fraction=0.5)

    outliers = [value for value in values if value > 1.2 * true_seconds()]

    assert len(outliers) == pytest.approx(0.02 * NUM_SAMPLES, rel=0.4)
    assert outliers == pytest.approx([1.5 * true_seconds()] * len(outliers))


def test_drift_slows_every_sample_and_then_stops() -> None:
    device = bench.device(bench.quiet_truth(drift_fraction=0.1, drift_seconds=1000.0))
    program = device.prepare(bench.work())

    device.sleep(500.0)
    halfway_seconds = program.sample()
    device.sleep(5000.0)

    assert halfway_seconds == pytest.approx(1.05 * true_seconds(), rel=1e-3)
    assert program.sample() == pytest.approx(1.1 * true_seconds(), rel=1e-3)


def test_a_sample_is_long_enough_for_event_timers() -> None:
    program = bench.device().prepare(bench.work((1,) + (0,) * 127))

    assert program.launches_per_sample > 1
    assert program.sample() * program.launches_per_sample >= 200e-6


@pytest.mark.parametrize(
    "changes",
    [{"drift_fraction": 0.1, "drift_seconds": 1.0}, {"latency_fraction_per_celsius": 0.005}],
)
def test_a_run_is_slowed_by_drift_and_by_heat_as_samples_are(changes: dict[str, float]) -> None:
    device = bench.device(bench.quiet_truth(**changes))
    program = device.prepare(bench.work())
    program.run(300.0)
    launch_seconds = program.sample()
    start_seconds = device.now()

    num_launches = program.run(5.0)

    assert (device.now() - start_seconds) / num_launches == pytest.approx(launch_seconds, rel=1e-4)
    assert launch_seconds != pytest.approx(true_seconds(), rel=0.01)
