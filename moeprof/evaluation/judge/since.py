"""How a figure stands to what it was in an earlier result, of which only figures are known."""

from __future__ import annotations

import math

from moeprof.evaluation.judge.student import Estimated


def less(now: Estimated, then: Estimated) -> tuple[Estimated, float]:
    """Return now less then, and how much of the half-width is the earlier figure's.

    The two count as independent, so that distances to bounds add in quadrature (MOVER: Zou and
    Donner, Statistics in Medicine 27, 2008). An earlier figure without bounds is taken to be as
    uncertain, relatively, as today's, which more seeds make smaller; its own part is then 0.
    """
    return _combined(now.estimate - then.estimate, now, then, slope=1.0, scale=1.0)


def over(now: Estimated, then: Estimated) -> tuple[Estimated, float]:
    """Return now over then, which is not 0, as `less` does."""
    ratio = now.estimate / then.estimate
    return _combined(ratio, now, then, slope=ratio, scale=1 / then.estimate)


def _combined(
    estimate: float, now: Estimated, then: Estimated, *, slope: float, scale: float
) -> tuple[Estimated, float]:
    """Return `estimate`, scale x (now - slope x then) plus a constant, with bounds."""
    (above, below), (then_above, then_below) = _distances(now), _distances(then)
    is_unknown = then.low is None and then.high is None
    if is_unknown:
        relative = abs(then.estimate / now.estimate) if now.estimate != 0 else 1.0
        then_above, then_below = above * relative, below * relative
    if slope < 0:
        then_above, then_below = then_below, then_above
    down = math.hypot(below, slope * then_above)
    up = math.hypot(above, slope * then_below)
    if scale < 0:
        down, up = up, down
    size = abs(scale)
    fixed_half = 0.0 if is_unknown else size * abs(slope) * max(then_above, then_below)
    low, high = estimate - size * down, estimate + size * up
    return Estimated(estimate, _finite(low), _finite(high)), fixed_half


def _distances(found: Estimated) -> tuple[float, float]:
    """Return how far above and below an estimate its bounds are, infinite where there is none."""
    above = math.inf if found.high is None else found.high - found.estimate
    return above, math.inf if found.low is None else found.estimate - found.low


def _finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None
