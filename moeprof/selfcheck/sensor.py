"""Whether a sensor's period, window and lag are found on cards whose sensors chance has drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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

# What NVML's power usage is since Ampere, on a quarter of the cards.
_SLOW_WINDOW_SECONDS = 1.0
_SLOW_FRACTION = 0.25

PERIOD = Promise(
    "sensor_period_error", "a sensor's period is found to 2 %, in 95 % of trials", high=0.02
)
WINDOW = Promise(
    "sensor_window_error_seconds",
    "its averaging window is found to 5 ms, in 95 % of trials",
    high=0.005,
)
LAG = Promise("sensor_lag_error_seconds", "its lag is found to 5 ms, in 95 % of trials", high=0.005)
SLOW_WINDOW = Promise(
    "sensor_slow_window_error",
    "an average over a second is found to 5 %, or refused, in 95 % of trials",
    high=0.05,
)
COVERAGE = Promise("sensor_interval_coverage", "9 of 10 intervals of a lag hold it", low=0.9)
ENERGY = Promise(
    "energy_error_known_sensors_p95",
    "joules per launch measured with that knowledge err by at most 1 %, in 95 % of trials",
    high=0.01,
)


@dataclass(frozen=True, slots=True)
class SensorTrial:
    """Errors of what was found, infinite where nothing was; the worse of both sensors.

    Of a slow window the error is a fraction of it, and None where it was refused.
    """

    is_slow: bool

    period_error_fraction: float
    window_error_seconds: float
    slow_window_error_fraction: float | None
    lag_error_seconds: float
    lags_covered: bool
    characterising_seconds: float
    energy_error_fraction: float | None


def trial(gpu: GPU, random: np.random.Generator) -> SensorTrial:
    """Characterise the sensors of a drawn card, and measure a launch with what was found."""
    truth = drawn_truth(gpu, random)
    is_slow = random.random() < _SLOW_FRACTION
    if is_slow:
        truth = replace(truth, power_window_seconds=_SLOW_WINDOW_SECONDS)
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
    window_error_seconds = _error(power.window_seconds, truth.power_window_seconds)
    slow_window_error = None
    if is_slow and power.window_seconds is not None:
        slow_window_error = window_error_seconds / truth.power_window_seconds
    return SensorTrial(
        is_slow=is_slow,
        period_error_fraction=max(
            _error(power.period_seconds, truth.power_update_seconds) / truth.power_update_seconds,
            _error(counter.period_seconds, truth.counter_seconds) / truth.counter_seconds,
        ),
        window_error_seconds=window_error_seconds,
        slow_window_error_fraction=slow_window_error,
        lag_error_seconds=max(_error(found, true) for found, _, true in lags),
        lags_covered=all(
            error is not None and _error(found, true) <= error for found, error, true in lags
        ),
        characterising_seconds=characterising_seconds,
        energy_error_fraction=energy_error,
    )


def judge(trials: Sequence[SensorTrial]) -> tuple[Finding, ...]:
    """Return what all trials come to; a slow average has its own promise, the rest is of others."""
    errors = [e.energy_error_fraction for e in trials if e.energy_error_fraction is not None]
    slow, fast = ([each for each in trials if each.is_slow is kind] for kind in (True, False))
    slow_errors = [
        each.slow_window_error_fraction
        for each in slow
        if each.slow_window_error_fraction is not None
    ]
    unknown = [each for each in fast if math.isinf(each.window_error_seconds)]
    return (
        of_quantile(PERIOD, [each.period_error_fraction for each in fast]),
        of_quantile(WINDOW, [each.window_error_seconds for each in fast]),
        of_quantile(SLOW_WINDOW, slow_errors),
        of_quantile(LAG, [each.lag_error_seconds for each in fast]),
        of_share(COVERAGE, sum(each.lags_covered for each in fast), len(fast)),
        of_quantile(ENERGY, errors),
        told(
            "sensor_unknown",
            "share of cards whose averaging window could not be told",
            len(unknown) / max(1, len(fast)),
            len(fast),
        ),
        told(
            "sensor_slow_window_refused",
            "share of averages over a second that were refused, with a reason",
            1 - len(slow_errors) / max(1, len(slow)) if slow else None,
            len(slow),
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
            SLOW_WINDOW.name,
            LAG.name,
            COVERAGE.name,
            ENERGY.name,
            "sensor_unknown",
            "sensor_slow_window_refused",
            "sensor_characterising_seconds",
        ),
        num_trials=60,
        trial=trial,
        judge=judge,
    ),
)
