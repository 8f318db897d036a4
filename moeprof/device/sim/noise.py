"""How the latencies of one simulated sample after another scatter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from moeprof.device.sim.truth import Truth


class TimingNoise:
    """Log-normal noise that carries over from sample to sample, with rare outliers.

    The log of the noise is AR(1): `x' = carry*x + sqrt(1 - carry^2)*noise*N(0, 1)`. Its factor
    has mean 1; outliers raise the mean to `mean_factor`.
    """

    def __init__(self, truth: Truth, seed: np.random.SeedSequence) -> None:
        self._truth = truth
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._carry_fraction = truth.noise_carry_fraction
        self._fresh_fraction = truth.noise_fraction * math.sqrt(1 - self._carry_fraction**2)
        self._deviation = truth.noise_fraction * float(self._random.standard_normal())
        self.mean_factor = 1 + truth.outliers_fraction * truth.outlier_extra_fraction

    def next_factor(self) -> float:
        """Return by what factor the next sample is slower than the noiseless one."""
        fresh = self._fresh_fraction * float(self._random.standard_normal())
        self._deviation = self._carry_fraction * self._deviation + fresh
        factor = math.exp(self._deviation - self._truth.noise_fraction**2 / 2)
        if self._random.random() < self._truth.outliers_fraction:
            factor *= 1 + self._truth.outlier_extra_fraction
        return factor

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state, for `restore`."""
        return {"random": self._random.bit_generator.state, "deviation": self._deviation}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._random.bit_generator.state = snapshot["random"]
        self._deviation = snapshot["deviation"]
