"""Which points are worth measuring next: those that a model is least sure of, per second."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.contexts import contexts_of
from moeprof.cost.fit_part import Problem, refit_curves
from moeprof.cost.grouping import curve_columns, group_codes
from moeprof.cost.terms import TERMS, term_seconds
from moeprof.cost.thermal import at_reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Observed, Points

# What measuring a point takes: its launches, and what it costs to bring the device there.
_NUM_LAUNCHES: Final = 2000
_FIXED_SECONDS: Final = 5.0


def with_measured(model: CostModel, points: Points, observed: Observed) -> CostModel:
    """Return the model with its curves of seconds drawn anew through measured points alone.

    What the network has learnt stays, and so do the intervals' widths by distance: a few points of
    a new layer or GPU tell where its curves lie, not what kernels have in common.
    """
    if not len(points):
        return model
    seconds = at_reference(points, observed, model.thermal).latency_seconds
    problem = Problem(
        points,
        contexts_of(points),
        TERMS,
        term_seconds(points),
        seconds,
        np.ones(len(points)),
    )
    return replace(model, latency=refit_curves(problem, model.latency))


def half_width_fractions(model: CostModel, points: Points) -> NDArray[np.float64]:
    """Return half of each point's 90 % interval of seconds, as a share of them, [num_points].

    It is half the logarithm of the ends' ratio, so that an interval from half to twice has 0.69.
    """
    predicted = model.seconds(points)
    found: NDArray[np.float64] = np.log(predicted.high / predicted.low) / 2
    return found


def most_worth(
    model: CostModel,
    points: Points,
    half_widths: NDArray[np.float64],
    num_wanted: int,
) -> NDArray[np.int64]:
    """Return up to `num_wanted` places of points to measure next, the most worth first.

    `half_widths`, [num_points], is 0 for points that are not asked about. Worth is the half-width
    per predicted second of measuring. The first of each curve over batch size come before any
    second ones, because a measured point makes its neighbours known as well.
    """
    measuring_seconds = _FIXED_SECONDS + _NUM_LAUNCHES * model.seconds(points).value
    worth = half_widths / measuring_seconds
    order = np.argsort(-worth, kind="stable")
    order = order[worth[order] > 0]
    curves = group_codes(curve_columns(points))[order]
    # How many of its curve come before each point.
    by_curve = np.argsort(curves, kind="stable")
    starts = np.searchsorted(curves[by_curve], curves[by_curve], side="left")
    turn = np.empty(len(order), dtype=np.int64)
    turn[by_curve] = np.arange(len(order)) - starts
    return order[np.argsort(turn, kind="stable")][:num_wanted]
