"""Expert ids drawn for the tokens of one batch, repeatably."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, assert_never

import numpy as np

from moeprof.workload.routing.check import check
from moeprof.workload.routing.grouped import limited_ids
from moeprof.workload.routing.pattern import (
    Active,
    Balanced,
    Dirichlet,
    Grouped,
    Hot,
    PackedPowerLaw,
    Pattern,
    PowerLaw,
    Replay,
    Strided,
    Ungrouped,
    Uniform,
    Zipf,
)
from moeprof.workload.routing.power_law import rows_by_power_law
from moeprof.workload.routing.replay import recorded_ids
from moeprof.workload.routing.sampling import (
    deal_counts,
    deal_evenly,
    hot_and_cold,
    weighted_without_replacement,
)
from moeprof.workload.routing.strided import strided_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray


def draw(
    pattern: Pattern, *, num_tokens: int, num_experts: int, top_k: int, seed: int
) -> NDArray[np.int64]:
    """Return the expert ids of a batch, [num_tokens, top_k], distinct within a token.

    The same arguments give the same ids (for one version of NumPy, whose generators may change
    between versions). Which experts are popular depends on the pattern, `num_experts` and `seed`
    only, so a sweep over batch sizes keeps its hot experts; which tokens pick them depends on
    `num_tokens` and `top_k` too. The order of a token's slots has no meaning.

    - `hot:N@share`: each token takes top_k x share of its experts from the hot ones, the fraction
      rounded up or down at random, so that the mean is exact. A token cannot take more hot experts
      than N, nor more cold ones than there are: the share is clipped to what that leaves.
    - `PATTERN/groups:N@M`: the ids that PATTERN draws, as a gate with groups changes them.
    - `replay:FILE`: consecutive tokens of the recording from a seeded offset; after its last token
      follows its first, as often as a batch longer than the recording needs.

    Raises WorkloadError: the combination is impossible; see `check`.
    """
    check(pattern, num_experts=num_experts, top_k=top_k, num_tokens=num_tokens)
    if not isinstance(pattern, Grouped):
        return _drawn(pattern, num_tokens, num_experts, top_k, seed)
    return limited_ids(
        _drawn(pattern.meant, num_tokens, num_experts, top_k, seed),
        num_experts=num_experts,
        num_groups=pattern.num_groups,
        num_allowed=pattern.num_allowed,
    )


def _drawn(
    pattern: Ungrouped | Replay, num_tokens: int, num_experts: int, top_k: int, seed: int
) -> NDArray[np.int64]:
    popularity = _generator("popularity", pattern, num_experts, seed)
    tokens = _generator("tokens", pattern, num_experts, seed, num_tokens, top_k)
    match pattern:
        case Uniform() | Zipf() | Dirichlet():
            log_weights = _log_weights(pattern, popularity, num_experts)
            return weighted_without_replacement(tokens, log_weights, num_tokens, top_k)
        case Strided():
            return strided_ids(num_tokens=num_tokens, num_experts=num_experts, top_k=top_k)
        case Balanced() | Active():
            experts = np.arange(num_experts)
            if isinstance(pattern, Active):
                experts = popularity.permutation(num_experts)[: pattern.num_active]
            return deal_evenly(tokens, experts, num_tokens, top_k)
        case PowerLaw(exponent) | PackedPowerLaw(exponent):
            quantiles = popularity.random(num_experts)
            rows = rows_by_power_law(
                quantiles,
                exponent,
                num_tokens=num_tokens,
                top_k=top_k,
                packed=isinstance(pattern, PackedPowerLaw),
            )
            return deal_counts(tokens, rows, top_k)
        case Hot(num_hot):
            order = popularity.permutation(num_experts)
            mean = mean_hot_picks(pattern, num_experts=num_experts, top_k=top_k)
            picks = _num_hot_picks(mean, tokens, num_tokens)
            return hot_and_cold(
                tokens, order[:num_hot], order[num_hot:], num_hot_picks=picks, top_k=top_k
            )
        case Replay():
            recorded = recorded_ids(pattern)
            offset = int(tokens.integers(len(recorded)))
            consecutive = np.arange(offset, offset + num_tokens)
            return recorded.take(consecutive, axis=0, mode="wrap")
        case _:
            assert_never(pattern)


def popularity_log_weights(
    pattern: Uniform | Zipf | Dirichlet, *, num_experts: int, seed: int
) -> NDArray[np.float64]:
    """Return the logarithms of the unnormalised popularity that `draw` uses, [num_experts]."""
    popularity = _generator("popularity", pattern, num_experts, seed)
    return _log_weights(pattern, popularity, num_experts)


def hot_experts(pattern: Hot, *, num_experts: int, seed: int) -> NDArray[np.int64]:
    """Return the experts that `draw` makes hot, [pattern.num_hot]."""
    popularity = _generator("popularity", pattern, num_experts, seed)
    return popularity.permutation(num_experts)[: pattern.num_hot]


def mean_hot_picks(pattern: Hot, *, num_experts: int, top_k: int) -> float:
    """Return how many of its experts a token takes from the hot ones, on average."""
    least = max(0, top_k - (num_experts - pattern.num_hot))
    most = min(top_k, pattern.num_hot)
    return min(max(pattern.share_fraction * top_k, least), most)


def _generator(purpose: str, pattern: Pattern, *numbers: int) -> np.random.Generator:
    """Return a generator seeded by everything that its draws may depend on, and nothing else."""
    text = "|".join([purpose, str(pattern), *map(str, numbers)])
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))


def _log_weights(
    pattern: Uniform | Zipf | Dirichlet, popularity: np.random.Generator, num_experts: int
) -> NDArray[np.float64]:
    """Return the logarithms of the experts' unnormalised popularity, [num_experts]."""
    match pattern:
        case Uniform():
            return np.zeros(num_experts)
        case Zipf(exponent):
            ranks_from_0: NDArray[np.float64] = popularity.permutation(num_experts).astype(float)
            return -exponent * np.log1p(ranks_from_0)
        case Dirichlet(concentration):
            # A Dirichlet draw is normalised Gamma(a) draws, and Gamma(a) is Gamma(a + 1) times
            # U^(1/a) (Marsaglia and Tsang 2000, section 6): its logarithm does not underflow.
            gammas = popularity.standard_gamma(concentration + 1.0, num_experts)
            return np.log(gammas) - popularity.standard_exponential(num_experts) / concentration


def _num_hot_picks(mean: float, tokens: np.random.Generator, num_tokens: int) -> NDArray[np.int64]:
    """Return how many hot experts each token takes, [num_tokens]."""
    whole = math.floor(mean)
    return whole + (tokens.random(num_tokens) < mean - whole).astype(np.int64)
