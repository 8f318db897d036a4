"""Whether a sensor's period, window and lag are found on cards whose sensors chance has drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.timing import launch_cost
from moeprof.measure.energy import measure_energy
from moeprof.measure.sensor.characterise import characterise_sensors
from moeprof.measure.sensor.stream import Quantity
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.draw import drawn_truth, log_between
from moeprof.selfcheck.energy import LAUNCH_SECONDS, SETTINGS, WatchedProgram, true_joules
from moeprof.selfcheck.finding import Promise, of_quantile, of_share, told
from moeprof.selfcheck.work import decode_work

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from moeprof.hardware.gpu import GPU
    from moeprof.selfcheck.finding import Finding

PERIOD = Promise(
    "sensor_period_error", "a sensor's period is found to 2 %, in 95 % of trials", high=0.02
)
WINDOW = Promise(
    "sensor_window_error_seconds",
    "its averaging window is found to 5 ms, in 95 % of trials",
    high=0.005,
)
LAG = Promise("sensor_lag_error_seconds", "its lag is found to 5 ms, in 95 % of trials", high=0.005)
COVERAGE = Promise("sensor_interval_coverage", "9 of 10 intervals of a lag hold it", low=0.9)
ENERGY = Promise(
    "energy_error_known_sensors_p95",
    "joules per launch measured with that knowledge err by at most 1 %, in 95 % of trials",
    high=0.01,
)


@dataclass(frozen=True, slots=True)
class SensorTrial:
    """Errors of what was found, infinite where nothing was; the worse of both sensors."""

    period_error_fraction: float
    window_error_seconds: float
    lag_error_seconds: float
    lags_covered: bool
    characterising_seconds: float
    energy_error_fraction: float | None


def trial(gpu: GPU, random: np.random.Generator) -> SensorTrial:
    """Characterise the sensors of a drawn card, and measure a launch with what was found."""
    truth = drawn_truth(gpu, random)
    device = SimulatedDevice(gpu, truth, seed=int(random.integers(2**31)))
    work = decode_work(truth, log_between(random, LAUNCH_SECONDS))
    program = WatchedProgram(device.prepare(work), device)
    report = characterise_sensors(device, program)
    characterising_seconds = device.now()
    power, counter = report.of(Quantity.POWER), report.of(Quantity.ENERGY)
    assert power is not None, "a simulated card has a power reading"
    assert counter is not None, "a simulated card has an energy counter"
    lags = (
        (power.lag_seconds, power.lag_error_seconds, truth.power_lag_seconds),
        (counter.lag_seconds, counter.lag_error_seconds, truth.counter_lag_seconds),
    )
    watched = WatchedProgram(program.program, device)
    energy = measure_energy(device, watched, SETTINGS, None, report)
    energy_error = None
    if energy.per_launch is not None:
        joules = sum(true_joules(truth, launch_cost(truth, work), watched.celsius))
        energy_error = abs(energy.per_launch.estimate / joules - 1)
    return SensorTrial(
        period_error_fraction=max(
            _error(power.period_seconds, truth.power_update_seconds) / truth.power_update_seconds,
            _error(counter.period_seconds, truth.counter_seconds) / truth.counter_seconds,
        ),
        window_error_seconds=_error(power.window_seconds, truth.power_window_seconds),
        lag_error_seconds=max(_error(found, true) for found, _, true in lags),
        lags_covered=all(
            error is not None and _error(found, true) <= error for found, error, true in lags
        ),
        characterising_seconds=characterising_seconds,
        energy_error_fraction=energy_error,
    )


def judge(trials: Sequence[SensorTrial]) -> tuple[Finding, ...]:
    """Return what all trials come to."""
    errors = [e.energy_error_fraction for e in trials if e.energy_error_fraction is not None]
    unknown = [each for each in trials if math.isinf(each.window_error_seconds)]
    return (
        of_quantile(PERIOD, [each.period_error_fraction for each in trials]),
        of_quantile(WINDOW, [each.window_error_seconds for each in trials]),
        of_quantile(LAG, [each.lag_error_seconds for each in trials]),
        of_share(COVERAGE, sum(each.lags_covered for each in trials), len(trials)),
        of_quantile(ENERGY, errors),
        told(
            "sensor_unknown",
            "share of cards whose averaging window could not be told",
            len(unknown) / max(1, len(trials)),
            len(trials),
        ),
        told(
            "sensor_characterising_seconds",
            "the longest that characterising took, in device time",
            max((each.characterising_seconds for each in trials), default=None),
            len(trials),
        ),
    )


def _error(found: float | None, true: float) -> float:
    return math.inf if found is None else abs(found - true)


CHECKS = (
    Check(
        name="sensor",
        figures=(
            PERIOD.name,
            WINDOW.name,
            LAG.name,
            COVERAGE.name,
            ENERGY.name,
            "sensor_unknown",
            "sensor_characterising_seconds",
        ),
        num_trials=100,
        trial=trial,
        judge=judge,
    ),
)
