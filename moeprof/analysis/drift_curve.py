"""The curve of a device's drift, laid through its sentinels by what their scatter supports."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import solve_triangular

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.analysis.sentinels import Series

# Standard deviations of log latency: of the wandering over a run, and from one measurement to the
# next. All are tried, and the curve is their mean by how likely they are.
_WANDERS: Final = tuple(10 ** (power / 2) for power in range(-8, 1))
_REPEATS: Final = tuple(10 ** (power / 2) for power in range(-8, -1))
# Priors as of Gelman (Bayesian Analysis 1, 2006); they matter with few sentinels only.
_WANDER_PRIOR: Final = 0.003
_REPEAT_PRIOR: Final = 0.001
_NEGLIGIBLE_WEIGHT: Final = 0.01


@dataclass(frozen=True, slots=True)
class DriftCurve:
    """The logarithm of the drift at some moments, 0 in the mean over the reference moments.

    `log_errors` are the standard errors of a measurement corrected by it, its own error apart: of
    the curve, and of what sentinels measured at one moment differ by beyond their own errors.
    """

    log_drifts: NDArray[np.float64]
    log_errors: NDArray[np.float64]


def drift_curve(
    series: Sequence[Series],
    seconds: NDArray[np.float64],
    reference_seconds: NDArray[np.float64],
) -> DriftCurve:
    """Return the drift at `seconds`, less its mean over the reference, by the sentinels in series.

    Every series is a level, a straight drift that all share, and a Brownian motion about it
    (universal kriging; a linear smoothing spline): straight where the drift is, bent or stepped
    where the sentinels say so.
    """
    moments = np.concatenate([each.moments_seconds for each in series])
    everything = np.concatenate([moments, seconds, reference_seconds])
    start, span = float(everything.min()), float(np.ptp(everything))
    assert span > 0, "sentinels lie apart in time"
    at, to = (moments - start) / span, (seconds - start) / span
    reference = (reference_seconds - start) / span
    level = np.repeat(np.arange(len(series)), [len(each.moments_seconds) for each in series])
    design = np.column_stack([level[:, None] == np.arange(len(series)), at - at.mean()])
    log_latencies = np.concatenate([each.log_latencies for each in series])
    errors = np.concatenate([each.log_errors for each in series])
    data = np.column_stack([design, log_latencies])
    pairs = list(product(_WANDERS, _REPEATS))
    log_likelihoods = np.concatenate([_log_likelihoods(at, errors, data, w) for w in _WANDERS])
    weights = np.array([_prior(*pair) for pair in pairs]) * np.exp(
        log_likelihoods - log_likelihoods.max()
    )
    weights[weights < _NEGLIGIBLE_WEIGHT * weights.max()] = 0
    weights /= weights.sum()
    means, variances = [], []
    kept = np.flatnonzero(weights)
    for index in kept:
        mean, variance = _predicted(at, errors, data, *pairs[index], to=to, reference=reference)
        means.append(mean)
        variances.append(variance)
    weights = weights[kept][:, None]
    log_drifts = np.sum(weights * means, axis=0)
    variance = np.sum(weights * (variances + (means - log_drifts) ** 2), axis=0)
    return DriftCurve(log_drifts, np.sqrt(variance))


def _prior(wander: float, repeat: float) -> float:
    """Return the weight of one step of a grid that is even in both deviations' logarithms."""
    half_cauchy = wander / (1 + (wander / _WANDER_PRIOR) ** 2)
    # Lighter in the tail, so that a step is taken for a step and not for scatter.
    return half_cauchy * repeat / (1 + (repeat / _REPEAT_PRIOR) ** 2) ** 2


def _log_likelihoods(
    at: NDArray[np.float64], errors: NDArray[np.float64], data: NDArray[np.float64], wander: float
) -> NDArray[np.float64]:
    """Return the restricted log likelihood (REML) of one wander with every repeat.

    Levels and straight drift, the columns of `data` before its last one, are integrated out.
    """
    scatter = np.identity(len(at)) * errors**2
    repeats = np.array(_REPEATS)[:, None, None] ** 2 * np.identity(len(at))
    lower = np.linalg.cholesky(wander**2 * np.minimum(at[:, None], at) + scatter + repeats)
    # The last row of R is what the design cannot explain; its other rows are the design's own.
    upper = np.asarray(np.linalg.qr(np.linalg.solve(lower, data[None]), mode="r"))
    num_fixed = data.shape[1] - 1
    unexplained = np.sum(upper[:, num_fixed:, -1] ** 2, axis=1)
    fixed = np.abs(np.diagonal(upper, axis1=1, axis2=2)[:, :num_fixed])
    own = np.diagonal(lower, axis1=1, axis2=2)
    return np.asarray(-np.log(own).sum(axis=1) - np.log(fixed).sum(axis=1) - unexplained / 2)


def _predicted(
    at: NDArray[np.float64],
    errors: NDArray[np.float64],
    data: NDArray[np.float64],
    wander: float,
    repeat: float,
    *,
    to: NDArray[np.float64],
    reference: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the drift at `to` less its mean over `reference`, and the variance of it."""
    covariance = wander**2 * np.minimum(at[:, None], at)
    covariance[np.diag_indices_from(covariance)] += errors**2 + repeat**2
    lower = np.linalg.cholesky(covariance)
    whitened = solve_triangular(lower, data, lower=True, check_finite=False)
    design, log_latencies = whitened[:, :-1], whitened[:, -1]
    orthogonal, upper = np.linalg.qr(design)
    fixed = solve_triangular(upper, orthogonal.T @ log_latencies)
    to_reference = np.minimum(at[:, None], reference).mean(axis=1)
    known = wander**2 * (np.minimum(at[:, None], to) - to_reference[:, None])
    told = solve_triangular(lower, known, lower=True, check_finite=False)
    target = np.zeros((len(fixed), len(to)))
    target[-1] = to - reference.mean()
    mean = fixed @ target + (log_latencies - design @ fixed) @ told
    between = np.minimum(to[:, None], reference).mean(axis=1)
    within = np.minimum(reference[:, None], reference).mean()
    prior = wander**2 * (to - 2 * between + within)
    unsure = solve_triangular(upper, target - design.T @ told, trans="T")
    variance = prior - np.sum(told**2, axis=0) + np.sum(unsure**2, axis=0)
    return mean, np.maximum(variance, 0.0) + repeat**2
