"""Negative controls: what GPUs tell where it is not the truth.

The figures are [num_seeds, figures, num_gpus], as `FIGURES` orders them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.evaluation.channel.chance import generators
from moeprof.evaluation.channel.figures import FIGURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Told now and then by an adversary; a share of its figures is one of these.
_ABSURD: Final = np.array([np.nan, -1.0, 0.0, 1e9])
_ABSURD_FRACTION: Final = 0.05
_DIE, _CLOCK, _POWER, _SECONDS, _EXPECTED_SECONDS, _EXPECTED_WATTS, _FREE = range(len(FIGURES))


def uniform(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean GPU's figures for every GPU, all bits equal."""
    return np.broadcast_to(figures.mean(axis=-1, keepdims=True), figures.shape)


def permutations(seed: int, num_seeds: int, num_gpus: int, purpose: int) -> NDArray[np.int64]:
    """Return whose figures each rank tells, [num_seeds, num_gpus]: one cycle, so never its own.

    Sattolo's algorithm (Information Processing Letters 22, 1986). A GPU that is alone has only
    itself.
    """
    cycles = np.tile(np.arange(num_gpus), (num_seeds, 1))
    for cycle, source in zip(cycles, generators(seed, num_seeds, purpose), strict=True):
        for last in range(num_gpus - 1, 0, -1):
            other = source.integers(last)
            cycle[[last, other]] = cycle[[other, last]]
    return cycles


def adversarial(figures: NDArray[np.float64], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every figure mirrored about the middle of what the GPUs have, or an absurd one.

    The hottest tells the coldest's temperature, and the slowest, against what is expected of its
    rows, that it is as much too fast. `chance`, shaped as the figures, is uniform in [0, 1).
    """
    lies = _mirrored(figures)
    with np.errstate(divide="ignore", invalid="ignore"):
        for of, expected in ((_SECONDS, _EXPECTED_SECONDS), (_POWER, _EXPECTED_WATTS)):
            # Ratios mirrored in the logarithm: low · high / own.
            told = figures[:, expected] / figures[:, of]
            ratio = figures[:, of] / figures[:, expected]
            low = np.fmin.reduce(ratio, axis=-1, keepdims=True)
            high = np.fmax.reduce(ratio, axis=-1, keepdims=True)
            lies[:, of] = figures[:, expected] * low * high * told
            lies[:, expected] = figures[:, expected]
    # A mirrored NaN or an idle GPU's 0/0 says nothing that could be a lie.
    np.copyto(lies, figures, where=~np.isfinite(lies))
    absurd = chance < _ABSURD_FRACTION
    which = (chance[absurd] * (len(_ABSURD) / _ABSURD_FRACTION)).astype(np.int64)
    lies[absurd] = _ABSURD[which]
    return lies


def _mirrored(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.fmin.reduce(figures, axis=-1, keepdims=True)
    high = np.fmax.reduce(figures, axis=-1, keepdims=True)
    mirrored: NDArray[np.float64] = low + high - figures
    return mirrored
