from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from moeprof.evaluation.bootstrap import least_requests, mean_per_token


def test_the_mean_is_of_tokens_and_not_of_requests() -> None:
    found = mean_per_token(np.array([1.0, 9.0]), np.array([1, 3]), seed=0)

    assert found.estimate == 2.5
    assert (found.num_requests, found.num_tokens) == (2, 4)


@pytest.mark.parametrize("num_requests", [1, 2, 5])
def test_too_few_requests_have_a_reason_in_place_of_an_interval(num_requests: int) -> None:
    found = mean_per_token(np.arange(num_requests) + 0.5, np.ones(num_requests, int), seed=0)

    assert found.interval is None
    assert found.no_interval_reason == (
        f"{num_requests} {'request is' if num_requests == 1 else 'requests are'} too few: "
        "95% takes at least 6"
    )


def test_enough_requests_have_an_interval_and_no_reason() -> None:
    found = mean_per_token(np.arange(6) + 0.5, np.ones(6, int), seed=0)

    assert found.interval is not None
    assert found.interval.low < found.estimate < found.interval.high
    assert found.no_interval_reason is None


def test_the_fewest_requests_are_those_whose_range_covers_often_enough() -> None:
    # The range of n draws misses the middle of their distribution in 2^(1-n) of cases.
    assert [least_requests(confidence) for confidence in (0.5, 0.75, 0.9, 0.95)] == [2, 3, 5, 6]


def test_requests_without_a_token_do_not_count() -> None:
    sums, num_tokens = np.array([2.0, 0.0, 4.0]), np.array([1, 0, 1])
    found = mean_per_token(sums, num_tokens, seed=0)

    assert found == mean_per_token(sums[[0, 2]], num_tokens[[0, 2]], seed=0)
    assert found.num_requests == 2


def test_equal_requests_have_an_interval_without_width() -> None:
    found = mean_per_token(np.full(20, 3.0), np.full(20, 4), seed=0).interval

    assert found is not None
    assert (found.low, found.estimate, found.high) == (0.75, 0.75, 0.75)


def test_a_seed_gives_one_interval_and_another_seed_another() -> None:
    random = np.random.default_rng(3)
    sums, num_tokens = random.normal(size=40), random.integers(1, 9, size=40)
    first, again, other = (
        mean_per_token(sums, num_tokens, seed=seed).interval for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_the_order_of_requests_changes_the_draw_and_no_bit_of_the_estimate() -> None:
    random = np.random.default_rng(3)
    sums, num_tokens = random.normal(size=50) * 1e3, random.integers(1, 9, size=50)
    order = random.permutation(50)
    straight = mean_per_token(sums, num_tokens, seed=1)
    shuffled = mean_per_token(sums[order], num_tokens[order], seed=1)

    assert straight.estimate == shuffled.estimate
    assert straight.interval is not None
    assert shuffled.interval is not None
    width = straight.interval.high - straight.interval.low
    assert straight.interval.low == pytest.approx(shuffled.interval.low, abs=0.1 * width)
    assert straight.interval.high == pytest.approx(shuffled.interval.high, abs=0.1 * width)


def test_scaled_and_shifted_figures_scale_and_shift_the_interval() -> None:
    random = np.random.default_rng(5)
    sums, num_tokens = random.exponential(size=30), random.integers(1, 9, size=30)
    plain = mean_per_token(sums, num_tokens, seed=1).interval
    moved = mean_per_token(2 * sums + 3 * num_tokens, num_tokens, seed=1).interval

    assert plain is not None
    assert moved is not None
    assert moved.low == pytest.approx(2 * plain.low + 3)
    assert moved.high == pytest.approx(2 * plain.high + 3)


def test_of_few_normal_requests_the_interval_is_as_wide_as_students() -> None:
    random = np.random.default_rng(2)
    ratios = []
    for seed in range(60):
        sums = random.normal(size=10)
        found = mean_per_token(sums, np.ones(10, int), seed=seed).interval
        assert found is not None
        student = stats.sem(sums) * stats.t.ppf(0.975, df=9)
        ratios.append((found.high - found.low) / 2 / student)

    # The percentile interval would be narrower by 18 %, and without sqrt(n/(n-1)) by 5 %.
    assert np.mean(ratios) == pytest.approx(1, abs=0.025)


def test_of_many_skewed_requests_the_interval_is_scipys_bca() -> None:
    sums = np.random.default_rng(2).exponential(size=200)
    found = mean_per_token(sums, np.ones(200, int), seed=1, num_resamples=10_000).interval
    peer = stats.bootstrap((sums,), np.mean, method="BCa", n_resamples=10_000, rng=1)

    # The percentile interval ends 0.007 and 0.009 lower.
    assert found is not None
    assert found.low == pytest.approx(peer.confidence_interval.low, abs=0.003)
    assert found.high == pytest.approx(peer.confidence_interval.high, abs=0.003)


def draw(random: np.random.Generator, num_requests: int, kind: str) -> tuple[np.ndarray, ...]:
    """Return sums and numbers of tokens of requests whose true mean per token is 0.

    Tokens of a request have so much in common that the standard error of their mean is twice what
    it would be of independent ones.
    """
    num_tokens = random.integers(20, 200, size=num_requests)
    if kind == "normal":
        common = random.normal(scale=0.05, size=num_requests)
    elif kind == "skewed":
        common = random.exponential(scale=0.05, size=num_requests) - 0.05
    else:  # longer requests lose more
        common = 0.0005 * (num_tokens - np.mean(np.arange(20, 200)))
        common += random.normal(scale=0.03, size=num_requests)
        common -= 0.0005 * np.var(np.arange(20, 200)) / np.mean(np.arange(20, 200))
    own = random.normal(scale=0.3, size=num_requests) * np.sqrt(num_tokens)
    return num_tokens * common + own, num_tokens


@pytest.mark.parametrize("kind", ["normal", "skewed", "longer is worse"])
@pytest.mark.parametrize("num_requests", [30, 100])
def test_the_interval_covers_as_often_as_it_says(kind: str, num_requests: int) -> None:
    random = np.random.default_rng(11)
    covered = 0
    for seed in range(600):
        sums, num_tokens = draw(random, num_requests, kind)
        found = mean_per_token(sums, num_tokens, seed=seed, num_resamples=1000).interval
        assert found is not None
        covered += found.low <= 0 <= found.high

    assert 0.90 <= covered / 600 <= 0.97
