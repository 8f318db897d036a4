"""Whether telemetry is believed: what it predicts is held against the host's own clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.router.adaptation.robust import CLIP, gain, median, next_sigma

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DEGREES_OF_FREEDOM: Final = 4.0  # tails that make a pause of the host weigh next to nothing
_FIRST_SIGMA: Final = 0.5


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """When belief is lost and won back; evidence is a log likelihood ratio.

    Evidence against telemetry adds up to `ceiling_nats` at most and to 0 at least, by
    `most_per_step_nats` at most in one step. Telemetry is dropped above `drop_nats` and taken up
    again below `return_nats`. As long as it is believed, `allowance_nats` are forgotten per step.
    Differences below `least_noise_fraction` of a step's time count little.
    """

    drop_nats: float = 6.0
    return_nats: float = 2.0
    ceiling_nats: float = 15.0
    most_per_step_nats: float = 3.0
    allowance_nats: float = 0.05
    least_noise_fraction: float = 0.01
    gain_fraction: float = 0.05


class Trust:
    """Belief in the factors of all seeds.

    A layer ends when its slowest GPU does, so factors f predict max over ranks of f · expected;
    no factors predict max of expected. The router knows what it expects of the rows that it sent,
    and the host times the layer: neither is told by a GPU. A scale that all GPUs share is learnt
    for either prediction and taken out. The log of what remains is Student's t of a spread that is
    learnt too, and the ratio of likelihoods feeds a cumulative sum between two bounds (Page,
    Biometrika 41, 1954).
    """

    def __init__(self, settings: TrustSettings, num_seeds: int = 1) -> None:
        self._settings = settings
        # [predictions, num_seeds]: with factors, without.
        self._scale = np.zeros((2, num_seeds))
        self._sigma = np.full(num_seeds, _FIRST_SIGMA)
        self._num_seen = np.zeros(num_seeds)
        self._against = np.zeros(num_seeds)
        self._believed = np.ones(num_seeds, dtype=np.bool_)

    @property
    def value(self) -> NDArray[np.float64]:
        """Return 1.0 where telemetry is believed and 0.0 where not, [num_seeds]."""
        return self._believed.astype(np.float64)

    def tempered(self, factors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the factors that a router should use, [num_seeds, num_gpus]: factors ** trust.

        They are exactly 1.0 where telemetry is not believed, and untouched where it is.
        """
        return np.where(self._believed[:, np.newaxis], factors, 1.0)

    def observe(
        self,
        measured_seconds: NDArray[np.float64],
        expected_seconds: NDArray[np.float64],
        factors: NDArray[np.float64],
    ) -> None:
        """Learn from one step.

        `measured_seconds`, [num_seeds, num_layers], is the time of every layer's experts on the
        host's clock, from dispatch to the last rank's end; `expected_seconds`, [num_seeds,
        num_layers, num_gpus], what the router expects of the rows that it sent; `factors`,
        [num_seeds, num_gpus], what telemetry says, believed or not. A layer that has no time
        above 0, or of which nothing was expected, changes nothing.
        """
        predicted = np.stack(
            [
                (expected_seconds * factors[:, np.newaxis]).max(axis=-1),
                expected_seconds.max(axis=-1),
            ]
        )
        with np.errstate(all="ignore"):
            error = np.log(measured_seconds / predicted)
        there = np.isfinite(error).all(axis=0) & (measured_seconds > 0)
        num_there = np.count_nonzero(there, axis=-1)
        self._start(np.where(there, error, np.nan), num_there)
        error = np.where(there, error - self._scale[..., np.newaxis], 0)
        self._judge(error, there)
        self._learn(error, num_there)

    def _start(self, error: NDArray[np.float64], num_there: NDArray[np.int64]) -> None:
        """Take the first step's errors for the scale."""
        first = (self._num_seen == 0) & (num_there > 0)
        if first.any():
            self._scale = np.where(first, median(error)[..., 0], self._scale)

    def _judge(self, error: NDArray[np.float64], there: NDArray[np.bool_]) -> None:
        """Add this step's evidence; `error` is [predictions, num_seeds, num_layers]."""
        settings = self._settings
        spread = _DEGREES_OF_FREEDOM * self._sigma[:, np.newaxis] ** 2
        unlikely = (_DEGREES_OF_FREEDOM + 1) / 2 * np.log1p(error**2 / spread)
        evidence = np.where(there, unlikely[0] - unlikely[1], 0).sum(axis=-1)
        most = settings.most_per_step_nats
        allowance = settings.allowance_nats * (self._believed & there.any(axis=-1))
        evidence = np.clip(evidence, -most, most) - allowance
        self._against = np.clip(self._against + evidence, 0, settings.ceiling_nats)
        self._believed = np.where(
            self._believed,
            self._against <= settings.drop_nats,
            self._against < settings.return_nats,
        )

    def _learn(self, error: NDArray[np.float64], num_there: NDArray[np.int64]) -> None:
        """Move scale and spread by the mean over layers."""
        seen = num_there > 0
        weight = np.where(seen, gain(self._num_seen, self._settings.gain_fraction), 0)
        num_there = np.maximum(num_there, 1)
        reach = CLIP * self._sigma[:, np.newaxis]
        self._scale = self._scale + weight * np.clip(error, -reach, reach).sum(axis=-1) / num_there
        # The better prediction tells how far measurements scatter by themselves.
        scatter = np.minimum(np.abs(error).min(axis=0), reach).sum(axis=-1) / num_there
        self._sigma = next_sigma(self._sigma, scatter, weight, self._settings.least_noise_fraction)
        self._num_seen += seen
