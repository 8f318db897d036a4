"""Each GPU's own factor of seconds, or of watts, against the cost model: learnt from telemetry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.router.adaptation.robust import CLIP, gain, median, next_sigma

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_FIRST_SIGMA: Final = 0.1  # of the log of measured over expected, before anything is known
_DOUBT: Final = 2.0  # variances; two standard errors in the long run


@dataclass(frozen=True, slots=True)
class GpuFactorsSettings:
    """How fast factors move, and what they may be.

    `gain_fraction` of a deviation is taken over at every observation, more of the first ones;
    nine tenths of a change take 2.3 / gain_fraction observations. Factors stay within
    `bound_octaves` doublings or halvings. A reading counts in full up to the age `late_seconds`,
    and no more from twice that.
    """

    gain_fraction: float = 0.05
    least_noise_fraction: float = 0.005
    bound_octaves: float = 2.0
    late_seconds: float = 0.5


class GpuFactors:
    """Factors of all seeds and GPUs, relative to the median GPU.

    A recursive M-estimate of log(measured / expected): an exponential average of innovations that
    are clipped at three of their own running standard deviations (Martin and Masreliez, IEEE
    Transactions on Information Theory 21, 1975). What all GPUs have in common at one time, such as
    an error of the cost model at these loads, is the median innovation, and is taken out. Hence
    GPUs whose ratios are equal have exactly 1.0 each, whatever is missing, and no GPU's number
    matters. A logarithm that its own scatter could have made is drawn to 0, one within about two
    standard errors quite: 1 - c / x² of it stays (Breiman's garrote, Technometrics 37, 1995).
    """

    def __init__(self, settings: GpuFactorsSettings, num_gpus: int, num_seeds: int = 1) -> None:
        self._settings = settings
        self._bound = settings.bound_octaves * np.log(2)
        shape = (num_seeds, num_gpus)
        self._logs = np.zeros(shape)
        self._sigma = np.full(shape, _FIRST_SIGMA)
        self._num_seen = np.zeros(shape)
        self._values = np.ones(shape)

    @property
    def values(self) -> NDArray[np.float64]:
        """Return the factors, [num_seeds, num_gpus]; above 1: slower. Not to be written to."""
        return self._values

    def observe(
        self,
        measured: NDArray[np.float64],
        expected: NDArray[np.float64],
        age_seconds: ArrayLike | None = None,
    ) -> None:
        """Learn from one reading of every GPU, each [num_seeds, num_gpus], in one unit.

        A GPU's reading changes nothing where a figure of it is not a number above 0, where its
        age is too high or NaN, or where it lies too far off for any factor within bounds.
        """
        with np.errstate(all="ignore"):
            logs = np.log(measured / expected)
            weight = (np.isfinite(logs) & (measured > 0) & (expected > 0)).astype(np.float64)
        if age_seconds is not None:
            late = 2 - np.asarray(age_seconds, dtype=np.float64) / self._settings.late_seconds
            weight *= np.nan_to_num(np.clip(late, 0, 1))
        innovation = np.where(weight > 0, logs - self._logs, np.nan)
        innovation -= median(innovation)
        # Both a factor and its estimate are within bounds, so no honest pair is further apart.
        weight *= np.abs(innovation) <= 2 * self._bound
        innovation = np.where(weight > 0, innovation, 0)
        clipped = np.clip(innovation, -CLIP * self._sigma, CLIP * self._sigma)
        moved = weight * gain(self._num_seen, self._settings.gain_fraction)
        self._logs = self._logs + moved * clipped
        self._sigma = next_sigma(self._sigma, clipped, moved, self._settings.least_noise_fraction)
        self._num_seen += weight
        self._logs = np.clip(self._logs - median(self._logs), -self._bound, self._bound)
        self._values = np.exp(self._shrunk())

    def _shrunk(self) -> NDArray[np.float64]:
        # An average with this weight has at most this variance, and half of it in the long run.
        variance = self._sigma**2 * gain(self._num_seen, self._settings.gain_fraction)
        square = self._logs**2
        doubt = np.divide(_DOUBT * variance, square, out=np.ones_like(square), where=square > 0)
        shrunk: NDArray[np.float64] = self._logs * np.maximum(1 - doubt, 0)
        return shrunk
