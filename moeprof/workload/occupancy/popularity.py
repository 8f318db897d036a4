"""Rows of a rank's experts where each token chooses its experts by their popularity.

Tokens choose independently, so an expert's rows are binomial: the number of tokens, and the chance
that one of them takes the expert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.stats import binom

from moeprof.workload.routing.draw import hot_experts, mean_hot_picks, popularity_log_weights
from moeprof.workload.routing.pattern import Dirichlet, Hot, Uniform, Zipf

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUM_HALVINGS: Final = 80
_SEED: Final = 20_240_601  # of the quantiles; any number would do


def rows_by_popularity(
    pattern: Uniform | Zipf | Dirichlet | Hot,
    *,
    num_experts: int,
    top_k: int,
    batch_sizes: NDArray[np.int64],
    num_local: int,
    num_draws: int,
) -> NDArray[np.int64]:
    """Return rows of the first `num_local` experts, [num_batches, num_draws, num_local].

    Each draw has a popularity of its own, that of `routing.draw` for the seeds 0, 1, 2 and so on.
    The quantiles of the binomial distributions are those of a Latin square, one for each expert
    and draw, and the same at every batch size. Rows of different experts are drawn independently,
    although they depend on each other a little through the tokens' fixed number of experts.
    """
    if isinstance(pattern, Uniform):
        chances = np.full((num_draws, num_experts), top_k / num_experts)
    elif isinstance(pattern, Hot):
        chances = _hot_chances(pattern, num_experts, top_k, num_draws)
    else:
        chances = _inclusion_chances(
            np.stack(
                [
                    popularity_log_weights(pattern, num_experts=num_experts, seed=seed)
                    for seed in range(num_draws)
                ]
            ),
            top_k,
        )
    local = np.clip(chances[:, :num_local], 0.0, 1.0)
    strata = np.random.default_rng(_SEED).permutation(local.size).reshape(local.shape)
    quantiles = (strata + 0.5) / local.size
    rows: NDArray[np.int64] = binom.ppf(
        quantiles, batch_sizes[:, np.newaxis, np.newaxis], local
    ).astype(np.int64)
    return rows


def _hot_chances(pattern: Hot, num_experts: int, top_k: int, num_draws: int) -> NDArray[np.float64]:
    mean = mean_hot_picks(pattern, num_experts=num_experts, top_k=top_k)
    cold = (top_k - mean) / (num_experts - pattern.num_hot)
    chances = np.full((num_draws, num_experts), cold)
    for seed in range(num_draws):
        hot = hot_experts(pattern, num_experts=num_experts, seed=seed)
        chances[seed, hot] = mean / pattern.num_hot
    return chances


def _inclusion_chances(log_weights: NDArray[np.float64], top_k: int) -> NDArray[np.float64]:
    """Return the chance that a token takes each expert, like `log_weights` [num_draws, experts].

    k successive draws without replacement are the k earliest of exponential arrivals with the
    weights as rates. In expectation k experts have arrived at the time t at which the chances
    1 - exp(-w t) sum to k (Rosen 1997, J. Statist. Plann. Inference 62, 135; asymptotic in k).
    """
    if top_k == log_weights.shape[-1]:
        return np.ones_like(log_weights)
    low = -log_weights.max(axis=-1, keepdims=True) - 50.0
    high = -log_weights.min(axis=-1, keepdims=True) + 50.0

    def chances(log_time: NDArray[np.float64]) -> NDArray[np.float64]:
        return -np.expm1(-np.exp(np.clip(log_weights + log_time, -700.0, 700.0)))

    for _ in range(_NUM_HALVINGS):
        middle = (low + high) / 2
        is_late = chances(middle).sum(axis=-1, keepdims=True) > top_k
        low, high = np.where(is_late, low, middle), np.where(is_late, middle, high)
    return chances((low + high) / 2)
