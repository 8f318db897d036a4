"""Means, differences and ratios over the seeds of a scene, with Student's intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import stdtrit

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
ROUNDING: Final = 1e-9
"""Relative differences below this are a float's, whichever way they go."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """A figure between two bounds; a bound that the runs cannot give is None.

    One seed bounds nothing: how much another would differ is unknown.
    """

    estimate: float
    low: float | None
    high: float | None


def reach(num_seeds: int, confidence: float = CONFIDENCE) -> float:
    """Return how many standard errors an interval reaches to each side; at least two seeds."""
    return float(-stdtrit(num_seeds - 1, (1 - confidence) / 2))


def standard_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard error of the mean over the last axis, which is of seeds.

    Seeds are independent and the steps of one are not, so a seed counts as one observation: the
    method of independent replications (Law, Simulation Modeling and Analysis, chapter 9), under
    which any correlation between steps, and whatever differs from seed to seed, is in the width.
    """
    error: NDArray[np.float64] = values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])
    return error


def mean(values: NDArray[np.float64], confidence: float = CONFIDENCE) -> Estimated:
    """Return the mean of one value per seed, [num_seeds]."""
    estimate = float(values.mean())
    if len(values) < 2:  # noqa: PLR2004 - what a spread takes
        return Estimated(estimate, None, None)
    return around(estimate, reach(len(values), confidence) * float(standard_error(values)))


def around(estimate: float, half: float) -> Estimated:
    """Return an estimate with bounds equally far away on both sides."""
    return Estimated(estimate, estimate - half, estimate + half)


def ratio(
    first: NDArray[np.float64], second: NDArray[np.float64], confidence: float = CONFIDENCE
) -> Estimated | None:
    """Return the ratio of two means over the same seeds, [num_seeds] each; None is over zero.

    The width is of what each seed says against the ratio, first - ratio x second (Cochran,
    Sampling Techniques, chapter 6), so that whatever seeds do to both alike cancels.
    """
    below = float(second.mean())
    if below == 0:
        return None
    estimate = float(first.mean()) / below
    if len(first) < 2:  # noqa: PLR2004 - what a spread takes
        return Estimated(estimate, None, None)
    error = float(standard_error(first - estimate * second)) / abs(below)
    return around(estimate, reach(len(first), confidence) * error)
