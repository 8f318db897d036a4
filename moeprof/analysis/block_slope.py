"""Slopes over a property of whole blocks, with intervals that know how few blocks there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from moeprof.record import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
_RANK_FRACTION: Final = 1e-9  # of the largest eigenvalue: below it a direction is not known


@dataclass(frozen=True, slots=True)
class BlockRows:
    """Measured values, each of one point in one block; codes count from 0.

    `errors` are standard errors of the values, all positive. `block_design` holds, for each block,
    the property asked about in its first column, and what else is to be told apart from it.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    points: NDArray[np.int64]
    blocks: NDArray[np.int64]
    block_design: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BlockSlope:
    """A slope with its 95 % interval, and the two-sided p-value of there being none."""

    interval: Interval
    p_value_fraction: float
    num_degrees: int


def block_slope(rows: BlockRows) -> BlockSlope | None:
    """Return the slope over the first column of the block design; None: too few blocks tell it.

    Every point has a level of its own, so blocks are compared through the points they share. All
    rows of a block share its disturbance, whose variance is estimated (Paule and Mandel 1982) on
    top of the rows' errors; the slope's interval is that of Knapp and Hartung (Statistics in
    Medicine 22, 2003), with t for the blocks that are left after the design and the variance.
    """
    information, told = _information(rows)
    weights, directions = np.linalg.eigh(information)
    known = weights > _RANK_FRACTION * max(float(weights[-1]), 0.0)
    weights, directions = weights[known], directions[:, known]
    effects = (directions.T @ told) / weights
    design = directions.T @ rows.block_design
    num_degrees = len(weights) - design.shape[1]
    if num_degrees < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return None

    def misfit(variance: float) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        scale = np.sqrt(weights / (1 + variance * weights))
        orthogonal, upper = np.linalg.qr(design * scale[:, None])
        projected = orthogonal.T @ (effects * scale)
        rest = float(np.sum((effects * scale) ** 2) - np.sum(projected**2))
        return max(rest, 0.0), upper, projected

    variance = 0.0
    if misfit(0.0)[0] > num_degrees:
        highest = float(np.ptp(effects) ** 2) + 1 / float(weights.min())
        while misfit(highest)[0] > num_degrees:
            highest *= 2
        variance = brentq(lambda tried: misfit(tried)[0] - num_degrees, 0.0, highest)
    rest, upper, projected = misfit(variance)
    inverse = np.linalg.inv(upper)
    slope = float((inverse @ projected)[0])
    error = float(np.linalg.norm(inverse[0])) * math.sqrt(rest / num_degrees)
    if variance > 0:
        # Weights that hang on an estimated variance cost another degree (as in the prediction
        # intervals of Higgins, Thompson and Spiegelhalter, JRSS A 172, 2009).
        num_degrees = max(1, num_degrees - 1)
    half_width = float(stdtrit(num_degrees, (1 + CONFIDENCE) / 2)) * error
    interval = Interval(slope, slope - half_width, slope + half_width, CONFIDENCE)
    if error == 0:
        return BlockSlope(interval, float(slope == 0), num_degrees)
    return BlockSlope(interval, 2 * float(stdtr(num_degrees, -abs(slope) / error)), num_degrees)


def _information(rows: BlockRows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what the rows say of the blocks' effects, the points' levels eliminated."""
    num_blocks, num_points = len(rows.block_design), int(rows.points.max()) + 1
    weights = 1 / rows.errors**2
    shared = np.zeros((num_blocks, num_points))
    np.add.at(shared, (rows.blocks, rows.points), weights)
    sums = np.zeros((num_blocks, num_points))
    np.add.at(sums, (rows.blocks, rows.points), weights * rows.values)
    per_point = shared.sum(axis=0)
    levels = sums.sum(axis=0) / per_point
    information = np.diag(shared.sum(axis=1)) - (shared / per_point) @ shared.T
    told = sums.sum(axis=1) - shared @ levels
    return information, told
