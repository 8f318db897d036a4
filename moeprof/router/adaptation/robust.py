"""Running averages that outliers and absent values do not move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLIP: Final = 3.0
"""Deviations beyond so many standard deviations count as that many (Huber, Annals of Mathematical
Statistics 35, 1964)."""
_DEVIATION_TO_SIGMA: Final = (np.pi / 2) ** 0.5  # of a normal's mean absolute deviation


def gain(num_seen: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Return the weight of the next value, shaped as `num_seen`: a mean first, forgetting later.

    1 / (2 + n) is the mean of all values and a first one; below `least` it becomes an exponential
    average.
    """
    weight: NDArray[np.float64] = np.maximum(least, 1 / (2 + num_seen))
    return weight


def next_sigma(
    sigma: NDArray[np.float64],
    clipped: NDArray[np.float64],
    weight: NDArray[np.float64],
    least: float,
) -> NDArray[np.float64]:
    """Return the running standard deviation after one more deviation, all of one shape.

    `clipped` is at most CLIP sigma. As CLIP times the factor of the mean absolute deviation is
    above 1, sigma opens by itself when deviations go on, and stays where they are rare.
    """
    moved = sigma + weight * (_DEVIATION_TO_SIGMA * np.abs(clipped) - sigma)
    opened: NDArray[np.float64] = np.maximum(moved, least)
    return opened


def median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median over the last axis, which stays with length 1; NaN is absent.

    The order of values changes no bit of it; where none is there, it is NaN.
    """
    ordered = np.sort(values, axis=-1)  # NaN last
    num_there = np.count_nonzero(~np.isnan(values), axis=-1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(num_there - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(num_there // 2, values.shape[-1] - 1), axis=-1)
    middle: NDArray[np.float64] = np.where(num_there > 0, low / 2 + high / 2, np.nan)
    return middle
