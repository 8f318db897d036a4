"""Claims about what two tokens have in common."""

from __future__ import annotations

from itertools import combinations
from math import asin, pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from moeprof.evaluation.traffic.overlap import correlation, mean_overlaps


def test_overlaps_are_means_over_all_pairs() -> None:
    lengths = np.array([7, 1, 12, 5])
    starts = np.cumsum(lengths) - lengths
    logits = np.random.default_rng(0).standard_normal((25, 6))
    request = np.repeat(np.arange(4), lengths)
    chosen = [set(np.argsort(-row)[:2].tolist()) for row in logits]
    pairs = list(combinations(range(25), 2))

    def mean(kept: list[tuple[int, int]]) -> float:
        return float(np.mean([len(chosen[one] & chosen[other]) for one, other in kept]))

    found = mean_overlaps(logits, 2, starts, lengths, far_tokens=3)

    same = [(one, other) for one, other in pairs if request[one] == request[other]]
    assert found[0] == pytest.approx(mean([pair for pair in pairs if pair not in same]))
    assert found[1] == pytest.approx(mean([pair for pair in same if pair[1] - pair[0] >= 3]))
    assert found[2] == pytest.approx(mean([pair for pair in same if pair[1] - pair[0] == 1]))


@pytest.mark.parametrize("truth", [-0.6, 0.0, 0.3, 0.95])
def test_at_the_median_the_correlation_is_sheppards(truth: float) -> None:
    assert correlation(0.25 + asin(truth) / (2 * pi), 0.5) == pytest.approx(truth, abs=1e-9)


@given(truth=st.floats(-0.5, 0.95), used=st.floats(0.02, 0.6))
def test_the_correlation_is_the_one_that_the_joint_probability_came_from(
    truth: float, used: float
) -> None:
    below = norm.ppf(used)
    both = multivariate_normal([0, 0], [[1, truth], [truth, 1]]).cdf([below, below])

    assert correlation(float(both), used) == pytest.approx(truth, abs=0.01)


def test_overlaps_that_no_correlation_has_give_the_nearest() -> None:
    assert correlation(0.125, 0.125) > 0.99
    assert correlation(0.0, 0.5) < -0.99
