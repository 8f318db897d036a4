"""Streams of latency samples whose true median and mean are known, drawn by chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.special import ndtr

from moeprof.device.sim.truth import truth_of
from moeprof.selfcheck.draw import CARRY_FRACTION_MAX, between, log_between, with_drawn_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.hardware.gpu import GPU

# The shortest sample that moeprof takes, and a launch of 10 ms, longer than most decode steps.
_SAMPLE_SECONDS = (250e-6, 10e-3)
_CHANGE_FRACTION = (0.002, 0.02)
CARRY_BINS = (0.0, 0.2, 0.4, 0.6, 0.8, CARRY_FRACTION_MAX)


@dataclass(frozen=True, slots=True)
class Process:
    """What makes samples: log-normal AR(1) noise and outliers, as the simulated GPU has them.

    Its noiseless sample takes `sample_seconds`; `device.sim.noise` has the formulas.
    """

    sample_seconds: float
    noise_fraction: float
    carry_fraction: float
    outliers_fraction: float
    outlier_extra_fraction: float

    @property
    def mean_seconds(self) -> float:
        """The mean of the stationary process."""
        return self.sample_seconds * (1 + self.outliers_fraction * self.outlier_extra_fraction)

    @property
    def median_seconds(self) -> float:
        """The median of the stationary process."""
        return self.median_of_changing(np.ones(1))

    def median_of_changing(self, levels: NDArray[np.float64]) -> float:
        """Return the median of the average distribution of samples slowed by the factors `levels`.

        It is found numerically from the mixture: ordinary samples and outliers, at each level.
        """
        values, counts = np.unique(levels, return_counts=True)
        places = np.concatenate((values, values * (1 + self.outlier_extra_fraction)))
        shares = np.concatenate(
            (counts * (1 - self.outliers_fraction), counts * self.outliers_fraction)
        ) / len(levels)
        shifts = np.log(places) - self.noise_fraction**2 / 2

        def excess(log_factor: float) -> float:
            return float(shares @ ndtr((log_factor - shifts) / self.noise_fraction)) - 0.5

        margin = 10 * self.noise_fraction
        found = brentq(excess, shifts.min() - margin, shifts.max() + margin, xtol=1e-12)
        return self.sample_seconds * math.exp(found)

    def samples(self, random: np.random.Generator, num_samples: int) -> NDArray[np.float64]:
        """Return so many samples in a row, in seconds, from the stationary process."""
        fresh = random.standard_normal(num_samples)
        fresh[1:] *= math.sqrt(1 - self.carry_fraction**2)
        noise = lfilter([self.noise_fraction], [1.0, -self.carry_fraction], fresh)
        samples = self.sample_seconds * np.exp(noise - self.noise_fraction**2 / 2)
        outliers = random.random(num_samples) < self.outliers_fraction
        samples[outliers] *= 1 + self.outlier_extra_fraction
        return np.asarray(samples, dtype=np.float64)


def drawn_process(
    gpu: GPU, random: np.random.Generator, carry_fractions: tuple[float, float]
) -> Process:
    """Return a process as chance could have made it, whose noise carries over so much."""
    truth = with_drawn_noise(truth_of(gpu), random)
    return Process(
        sample_seconds=log_between(random, _SAMPLE_SECONDS),
        noise_fraction=truth.noise_fraction,
        carry_fraction=between(random, carry_fractions),
        outliers_fraction=truth.outliers_fraction,
        outlier_extra_fraction=truth.outlier_extra_fraction,
    )


def drawn_levels(
    random: np.random.Generator, num_changing: int, num_samples: int
) -> NDArray[np.float64]:
    """Return factors by which samples are slower: a step or a drift within the first ones.

    The step happens within the middle four fifths of the first `num_changing` samples; a drift
    takes all of them. Either goes up or down by 0.2 to 2 % and is for good.
    """
    change_fraction = log_between(random, _CHANGE_FRACTION) * random.choice((-1.0, 1.0))
    at = np.arange(num_samples) / num_changing
    is_step = random.random() < 0.5  # noqa: PLR2004 - a coin
    # A drift of a hundred small steps, so that there are few levels to average over.
    drift = np.minimum(np.ceil(100 * at) / 100, 1.0)
    progress = at >= between(random, (0.1, 0.9)) if is_step else drift
    return np.asarray(1 + change_fraction * progress, dtype=np.float64)
