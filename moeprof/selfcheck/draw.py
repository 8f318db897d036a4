"""Simulated GPUs whose physics and sensors chance has drawn from the published ranges."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from moeprof.device.sim.truth import truth_of

if TYPE_CHECKING:
    import numpy as np

    from moeprof.device.sim.truth import Truth
    from moeprof.hardware.gpu import GPU

# Sensors: arXiv 2312.02741 and NVML: 20 ms (Volta) to 100 ms between updates, gain within 5 %.
_PERIOD_SECONDS = (0.02, 0.1)
_WINDOW_SECONDS = (0.01, 0.1)
_LAG_SECONDS = (0.0, 0.05)
_GAIN_FRACTION = 0.05
_DROPPED_FRACTION_MAX = 0.01
# What reading takes: from a fast driver to one that asks a processor on the card (assumption).
_COUNTER_READ_SECONDS = (20e-6, 1e-3)
_STATE_READS = 3.0  # every sensor, over the counter alone
# Heat
_TIME_CONSTANT_SECONDS = (3.0, 300.0)
_NODES_RATIO_MIN = 2.0
_LEAKAGE_FRACTION_PER_CELSIUS = (0.002, 0.015)  # of the power in decode
_DECODE_FRACTION = 0.3  # of the power limit (arXiv 2605.11999: 137 to 300 of 700 W)
# Noise of single samples
_NOISE_FRACTION = (0.001, 0.02)
CARRY_FRACTION_MAX = 0.9
_OUTLIERS_FRACTION_MAX = 0.02
_OUTLIER_EXTRA_FRACTION = (0.05, 1.0)


def between(random: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Return a number drawn evenly between two bounds."""
    return float(random.uniform(*bounds))


def log_between(random: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Return a number drawn between two bounds, evenly in its logarithm."""
    return math.exp(random.uniform(math.log(bounds[0]), math.log(bounds[1])))


def drawn_truth(gpu: GPU, random: np.random.Generator) -> Truth:
    """Return the truth of a card of this kind as chance could have made it."""
    truth = with_drawn_noise(truth_of(gpu), random)
    return with_drawn_heat(with_drawn_sensors(truth, random), random)


def with_drawn_sensors(truth: Truth, random: np.random.Generator) -> Truth:
    """Return a truth whose power sensor and energy counter are drawn; they share one shunt."""
    period_seconds = between(random, _PERIOD_SECONDS)
    lag_seconds = between(random, _LAG_SECONDS)
    gain_error_fraction = between(random, (-_GAIN_FRACTION, _GAIN_FRACTION))
    counter_read_seconds = log_between(random, _COUNTER_READ_SECONDS)
    return replace(
        truth,
        counter_seconds=period_seconds,
        counter_lag_seconds=lag_seconds,
        counter_gain_error_fraction=gain_error_fraction,
        power_update_seconds=period_seconds,
        power_window_seconds=between(random, _WINDOW_SECONDS),
        power_lag_seconds=lag_seconds,
        power_gain_error_fraction=gain_error_fraction,
        counter_read_seconds=counter_read_seconds,
        state_read_seconds=_STATE_READS * counter_read_seconds,
        dropped_reads_fraction=between(random, (0.0, _DROPPED_FRACTION_MAX)),
    )


def with_drawn_heat(
    truth: Truth,
    random: np.random.Generator,
    time_constants_seconds: tuple[float, float] = _TIME_CONSTANT_SECONDS,
) -> Truth:
    """Return a truth whose thermal time constants and leakage are drawn."""
    shortest, longest = time_constants_seconds
    die_seconds = log_between(random, (shortest, longest / _NODES_RATIO_MIN))
    sink_seconds = log_between(random, (_NODES_RATIO_MIN * die_seconds, longest))
    share = between(random, _LEAKAGE_FRACTION_PER_CELSIUS)
    watts_per_celsius = share * _DECODE_FRACTION * truth.power_limit_watts
    return replace(
        truth,
        die_joules_per_celsius=die_seconds / truth.die_celsius_per_watt,
        heatsink_joules_per_celsius=sink_seconds / truth.heatsink_celsius_per_watt,
        leakage_watts=watts_per_celsius * truth.leakage_efold_celsius,
    )


def with_drawn_noise(truth: Truth, random: np.random.Generator) -> Truth:
    """Return a truth whose samples scatter, depend on each other and stray as drawn."""
    return replace(
        truth,
        noise_fraction=log_between(random, _NOISE_FRACTION),
        noise_carry_fraction=between(random, (0.0, CARRY_FRACTION_MAX)),
        outliers_fraction=between(random, (0.0, _OUTLIERS_FRACTION_MAX)),
        outlier_extra_fraction=log_between(random, _OUTLIER_EXTRA_FRACTION),
    )
