"""A fitted model adapted to a few points of a new layer, kernel or GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.anchors import fit_anchors
from moeprof.cost.contexts import contexts_of
from moeprof.cost.reach import Seen, seen_of
from moeprof.errors import FitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.contexts import Contexts
    from moeprof.cost.model import CostModel
    from moeprof.cost.part_model import PartModel
    from moeprof.cost.points import Observed, Points

_FEWEST: Final = 5
_MOST: Final = 2000  # beyond, a fit of its own knows more than an adaptation


def adapt(
    model: CostModel,
    points: Points,
    observed: Observed,
    weight: NDArray[np.float64] | None = None,
    *,
    watt_weight: NDArray[np.float64] | None = None,
) -> CostModel:
    """Return the model with what new points say of it added; the fit itself stays as it is.

    `weight`, [num_points], is 1, or less where a row is doubted; None: all are trusted.
    `watt_weight` is the same of power; None: as of latency.

    What is learnt holds for the points' layers on the points' GPUs. Intervals widen to hold 90 %
    of the new points when each is predicted from the others.

    Raises:
        FitError: there are fewer than 5 points, or more than 2,000.

    """
    if not _FEWEST <= len(points) <= _MOST:
        raise FitError(
            f"a model is adapted to {_FEWEST} to {_MOST} points, got {len(points)}",
            hint="Measure more points."
            if len(points) < _FEWEST
            else "Fit a model of its own to that many points, without --from.",
        )
    contexts = contexts_of(points)
    predicted = model.seconds(points).value
    trust = np.ones(len(points)) if weight is None else weight
    ratio = np.log(observed.latency_seconds / predicted)
    latency = _adapted(model.latency, points, contexts, ratio, trust)
    watts = model.watts
    power = model.average_watts(points)
    has = np.isfinite(observed.average_watts)
    if watts is not None and power is not None and has.sum() >= _FEWEST:
        some = points.take(has)
        ratio = np.log(observed.average_watts[has] / power.value[has])
        trust = trust if watt_weight is None else watt_weight
        watts = _adapted(watts, some, contexts_of(some), ratio, trust[has])
    return replace(model, latency=latency, watts=watts)


def _adapted(
    part: PartModel,
    points: Points,
    contexts: Contexts,
    log_ratio: NDArray[np.float64],
    trust: NDArray[np.float64],
) -> PartModel:
    anchors = fit_anchors(points, contexts, log_ratio, trust, part.encoder)
    new = seen_of(points, contexts)
    spans = dict(part.seen.octaves)
    for key, (low, high) in new.octaves.items():
        known = spans.get(key, (low, high))
        spans[key] = (min(low, known[0]), max(high, known[1]))
    seen = Seen(part.seen.shapes | new.shapes, spans)
    return replace(part, anchors=(*part.anchors, anchors), seen=seen)
