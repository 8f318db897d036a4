"""Quantiles of the steps of all seeds together, with what seeds say about their spread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.evaluation.judge.student import CONFIDENCE, Estimated, reach, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_RESAMPLES: Final = 1000
_COUNTS_AT_ONCE: Final = 2**21  # 16 MiB


def quantile(
    values: NDArray[np.float64], share: float, confidence: float = CONFIDENCE
) -> Estimated:
    """Return the quantile of `values`, [num_seeds, num_steps], as one sample.

    The share of steps at or below it is a mean over seeds; where that share's interval ends, the
    quantile's does (Woodruff, Journal of the American Statistical Association 47, 1952; for
    clusters Francisco and Fuller, The Annals of Statistics 19, 1991). It covers at least 92 % from
    three seeds on, where the bootstrap of a 99th percentile covers 75 to 92 %. A bound beyond the
    smallest or largest step is None: no step says how far out it lies.
    """
    estimate = float(np.quantile(values, share))
    if len(values) < 2:  # noqa: PLR2004 - what a spread takes
        return Estimated(estimate, None, None)
    error = float(standard_error((values <= estimate).mean(axis=1)))
    # Seeds that agree by accident do not know more than as many independent steps.
    error = max(error, math.sqrt(share * (1 - share) / values.size))
    half = reach(len(values), confidence) * error
    return Estimated(estimate, _bound(values, share - half), _bound(values, share + half))


def _bound(values: NDArray[np.float64], share: float) -> float | None:
    if float(values.min()) == float(values.max()):
        return float(values.min())
    return float(np.quantile(values, share)) if 0 <= share <= 1 else None


def draw_seeds(num_seeds: int, *, seed: int) -> NDArray[np.int64]:
    """Return how often each seed is drawn in each resample, [NUM_RESAMPLES, num_seeds].

    The seed is the block that is drawn, with all its steps (compare
    `moeprof.evaluation.bootstrap.mean_per_token`, where it is the request). Blocks of steps inside
    a drawn seed are not drawn again, which would count the spread within seeds twice (Davison and
    Hinkley, Bootstrap Methods and their Application, section 3.8).
    """
    shares = np.full(num_seeds, 1 / num_seeds)
    return np.random.default_rng(seed).multinomial(num_seeds, shares, size=NUM_RESAMPLES)


def resampled(
    values: NDArray[np.float64], share: float, drawn: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the quantile of each resample, [num_resamples].

    `values` are [num_seeds, num_steps], `drawn` [num_resamples, num_seeds] as of `draw_seeds`;
    each is NumPy's linear quantile of the drawn seeds' steps laid end to end.
    """
    num_steps = values.shape[1]
    order = np.argsort(values, axis=None, kind="stable")
    sorted_values, owners = values.ravel()[order], order // num_steps
    place = (values.size - 1) * share
    below, part = int(place), place - int(place)
    above = min(below + 1, values.size - 1)
    rows = max(1, _COUNTS_AT_ONCE // values.size)
    found = []
    for start in range(0, len(drawn), rows):
        reached = np.cumsum(drawn[start : start + rows, owners], axis=1)
        first = sorted_values[(reached <= below).sum(axis=1)]
        second = sorted_values[(reached <= above).sum(axis=1)]
        found.append(first + part * (second - first))
    return np.concatenate(found)
