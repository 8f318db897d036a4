"""The mean per token over requests, with an interval from resampling whole requests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from moeprof.record import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_RESAMPLES = 4000
_DRAWS_AT_ONCE = 2**21  # 16 MiB of indices
_LEAST_SLOPE = 1e-3  # keeps the correction for skewness from turning round far out in a tail


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean per token over requests; without an interval it says why."""

    estimate: float
    interval: Interval | None
    no_interval_reason: str | None
    num_requests: int
    num_tokens: int


def mean_per_token(
    sums: NDArray[np.float64],
    num_tokens: NDArray[np.int64],
    *,
    seed: int,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Return the sum of `sums` over the sum of `num_tokens`, both [num_requests], with an interval.

    Tokens of one request depend on each other, so the request is the block that is drawn with
    replacement (Künsch, The Annals of Statistics 17, 1989; here blocks are given, not cut). What is
    paired stays paired: `sums` are of differences, and two calls with as many requests and one
    seed draw the same requests. The interval is BCa (Efron and Tibshirani, An Introduction to the
    Bootstrap, chapter 14), with its normal quantiles widened to Student's for the number of
    requests (Hesterberg, arXiv:1411.5279, the expanded percentile interval). There is none where
    even the range of all resamples covers too rarely: the true mean lies outside the range of n
    requests in at least 2^(1-n) of cases. At least one request must have a token.
    """
    kept = num_tokens > 0
    sums, num_tokens = sums[kept], num_tokens[kept]
    num_requests, total_tokens = len(sums), int(num_tokens.sum())
    assert num_requests > 0, "a mean of no token is nothing"
    # fsum: the order in which requests come changes no bit of the estimate.
    estimate = math.fsum(sums) / total_tokens
    least = least_requests(confidence)
    if num_requests < least:
        few = "1 request is" if num_requests == 1 else f"{num_requests} requests are"
        reason = f"{few} too few: {confidence:.0%} takes at least {least}"
        return Estimate(estimate, None, reason, num_requests, total_tokens)
    means = _resampled(sums, num_tokens, seed, num_resamples)
    shares = _shares(estimate, means, _left_out(sums, num_tokens), confidence)
    low, high = (float(bound) for bound in np.quantile(means, shares))
    interval = Interval(estimate, min(low, estimate), max(high, estimate), confidence)
    return Estimate(estimate, interval, None, num_requests, total_tokens)


def least_requests(confidence: float) -> int:
    """Return the fewest requests whose range may cover with `confidence`: 1 - 2^(1-n) at most.

    If each is above the true mean with chance p, all are on one side of it with p^n + (1-p)^n,
    which is least at p = 1/2.
    """
    return 1 + math.ceil(-math.log2(1 - confidence))


def _resampled(
    sums: NDArray[np.float64], num_tokens: NDArray[np.int64], seed: int, num_resamples: int
) -> NDArray[np.float64]:
    """Return the mean per token of each resample, [num_resamples]."""
    random = np.random.default_rng(seed)
    num_requests = len(sums)
    rows = max(1, _DRAWS_AT_ONCE // num_requests)
    parts = []
    for start in range(0, num_resamples, rows):
        shape = (min(rows, num_resamples - start), num_requests)
        drawn = random.integers(num_requests, size=shape)
        parts.append(sums[drawn].sum(axis=1) / num_tokens[drawn].sum(axis=1))
    return np.concatenate(parts)


def _left_out(sums: NDArray[np.float64], num_tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean per token without each request in turn, [num_requests]."""
    left: NDArray[np.float64] = (sums.sum() - sums) / (num_tokens.sum() - num_tokens)
    return left


def _shares(
    estimate: float,
    means: NDArray[np.float64],
    left_out: NDArray[np.float64],
    confidence: float,
) -> NDArray[np.float64]:
    """Return which quantiles of the resampled means bound the interval, low and high."""
    num_requests, num_resamples = len(left_out), len(means)
    below = np.mean(means < estimate) + np.mean(means == estimate) / 2
    half = 0.5 / num_resamples
    bias = ndtri(np.clip(below, half, 1 - half))
    lean = left_out.mean() - left_out
    spread = math.sqrt(float(np.sum(lean**2)))
    skewness = float(np.sum(lean**3)) / (6 * spread**3) if spread > 0 else 0.0
    reach = -stdtrit(num_requests - 1, (1 - confidence) / 2)
    reach *= math.sqrt(num_requests / (num_requests - 1))
    tails = bias + np.array([-reach, reach])
    shares: NDArray[np.float64] = ndtr(
        bias + tails / np.maximum(1 - skewness * tails, _LEAST_SLOPE)
    )
    return shares
