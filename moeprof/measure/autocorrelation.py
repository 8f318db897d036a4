"""How many dependent samples are worth one independent sample to an estimate of their median."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import lfilter, lfiltic
from scipy.special import ndtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ORDER_MAX = 8
_SAMPLES_PER_ORDER = 150  # one more coefficient per so many samples: fewer would fit noise
_LAGS_MAX = 3000
_SPIKE_SCALES = 4.0  # of the median step between samples: further off both neighbours is a spike
# Alternating samples are worth more than independent ones, but short series only seem to alternate.
_SMALLEST = 0.8


def samples_per_independent_sample(values: NDArray[np.float64]) -> float:
    """Return the integrated autocorrelation time, in samples, of 1[value <= median].

    The variance of the count below the median is n/4 times this number. Counting indicators
    directly is noisy, so the values are turned into normal scores (which outliers cannot bend), an
    AR(p) process is fitted to them by Yule-Walker with p chosen by AIC, and its correlations r_k
    are carried over to the indicators, whose correlation is 2/pi asin(r_k) (Sheppard 1899, for a
    Gaussian copula). The first correlation is corrected for the bias of a short series, about
    -(1 + 3 r)/n (Marriott and Pope 1954).
    """
    num_values = len(values)
    if num_values < 4:  # noqa: PLR2004 - too few for a correlation
        return 1.0
    calm, spikes_fraction = _without_spikes(values)
    ordered = np.sort(calm)
    # Mean ranks, as of scipy.stats.rankdata, which takes ten times as long for few values.
    ranks = np.searchsorted(ordered, calm) + np.searchsorted(ordered, calm, side="right")
    scores = ndtri(ranks / (2 * num_values))
    power = float(scores @ scores)
    if power == 0:
        return 1.0
    order_max = min(_ORDER_MAX, 1 + num_values // _SAMPLES_PER_ORDER)
    correlations = np.ones(order_max + 1)
    for lag in range(1, order_max + 1):
        correlations[lag] = scores[lag:] @ scores[:-lag] / power
    correlations[1:] += (1 + 3 * correlations[1]) / num_values
    correlations[1:] = np.minimum(np.maximum(correlations[1:], -0.99), 1 - 3 / num_values)
    coefficients = _autoregression(correlations, num_values)
    extended = _extended(correlations, coefficients, min(num_values, _LAGS_MAX))
    total = float(np.arcsin(np.minimum(np.maximum(extended[1:], -1.0), 1.0)).sum())
    # A sample that strayed is above the median whatever its neighbours are.
    return max(_SMALLEST, 1 + (1 - spikes_fraction) ** 2 * 4 / math.pi * total)


def _without_spikes(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the values with single outliers levelled to their neighbours' mean, and their share.

    An outlier on its own hides the dependence of all others: 2 % of them would make samples that
    depend on each other (AR(1) of 0.85) look worth a third more than they are. Outliers in a row
    stay, because they are a dependence.
    """
    steps = np.diff(values)
    scale = _SPIKE_SCALES * float(np.sort(np.abs(steps))[len(steps) // 2])
    before, after = steps[:-1], -steps[1:]
    lone = np.minimum(before, after) > scale
    lone |= np.maximum(before, after) < -scale
    if scale == 0 or not lone.any():
        return values, 0.0
    calm = values.copy()
    calm[1:-1][lone] = ((values[:-2] + values[2:]) / 2)[lone]
    return calm, float(lone.mean())


def _autoregression(correlations: NDArray[np.float64], num_values: int) -> NDArray[np.float64]:
    """Return the coefficients of the order that AIC prefers, by the Levinson recursion."""
    coefficients = np.zeros(0)
    variance, best, best_score = 1.0, np.array([correlations[1]]), math.inf
    for order in range(1, len(correlations)):
        predicted = float(coefficients @ correlations[order - 1 : 0 : -1]) if order > 1 else 0.0
        reflection = (correlations[order] - predicted) / variance
        if abs(reflection) >= 1:
            break
        coefficients = np.append(coefficients - reflection * coefficients[::-1], reflection)
        variance *= 1 - reflection**2
        score = num_values * math.log(variance) + 2 * order
        if score < best_score:
            best, best_score = coefficients, score
    return best


def _extended(
    correlations: NDArray[np.float64], coefficients: NDArray[np.float64], num_lags: int
) -> NDArray[np.float64]:
    """Return correlations at lags 0 to `num_lags` that go on as the fitted process does."""
    order = len(coefficients)
    polynomial = np.concatenate(([1.0], -coefficients))
    state = lfiltic([1.0], polynomial, y=correlations[order:0:-1])
    rest, _ = lfilter([1.0], polynomial, np.zeros(max(0, num_lags - order)), zi=state)
    extended: NDArray[np.float64] = np.concatenate((correlations[: order + 1], rest))
    return extended
