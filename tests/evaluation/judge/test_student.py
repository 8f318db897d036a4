from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from moeprof.evaluation.judge.student import Estimated, mean, ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Any]


def test_a_mean_has_students_bounds_over_seeds() -> None:
    # t(2 degrees of freedom, 97.5 %) = 4.302653, deviation 1 of 3 seeds.
    half = 4.302653 / math.sqrt(3)

    found = mean(np.array([1.0, 2.0, 3.0]))

    assert (found.low, found.estimate, found.high) == pytest.approx((2 - half, 2, 2 + half))


def test_one_seed_bounds_nothing() -> None:
    one, two = np.array([3.0]), np.array([2.0])

    assert mean(one) == Estimated(3.0, None, None)
    assert ratio(one, two) == Estimated(1.5, None, None)


def test_a_ratio_forgets_what_seeds_do_to_both() -> None:
    second = np.array([1.0, 4.0, 9.0])

    found = ratio(0.9 * second, second)

    assert found is not None
    assert (found.low, found.estimate, found.high) == pytest.approx((0.9, 0.9, 0.9))


def test_a_ratio_of_ungiven_pairing_is_worked_by_hand() -> None:
    # Against the ratio 5/4 of the means, seeds say 2 - 1.25 x 2 and 3 - 1.25 x 2: -0.5 and 0.5.
    found = ratio(np.array([2.0, 3.0]), np.array([2.0, 2.0]))
    half = 12.706205 * math.sqrt(0.5) / math.sqrt(2) / 2

    assert found is not None
    assert (found.low, found.high) == pytest.approx((1.25 - half, 1.25 + half))


def test_there_is_no_ratio_to_nothing() -> None:
    assert ratio(np.ones(3), np.zeros(3)) is None


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(("correlation", "seed_deviation"), [(0.0, 0.0), (0.8, 0.0), (0.9, 1.0)])
def test_bounds_hold_the_truth_as_often_as_they_say(
    num_seeds: int, correlation: float, seed_deviation: float, ar1: Make
) -> None:
    num_trials = 2000
    random = np.random.default_rng(num_seeds)
    options = {"correlation": correlation, "seed_deviation": seed_deviation}
    steps = ar1(random, (num_trials, num_seeds, 48), **options)
    truth = math.exp(0.005 * (1 + seed_deviation**2))  # of a log-normal
    found = [mean(each.mean(axis=1)) for each in steps]
    share = np.mean([each.low <= truth <= each.high for each in found])

    assert 0.93 <= share <= 0.97


def test_percentiles_of_pooled_steps_would_not_hold_it(ar1: Make) -> None:
    steps = ar1(np.random.default_rng(0), (500, 5, 48), correlation=0.9, seed_deviation=0.5)
    truth = math.exp(0.005 * 1.25)
    reach = stats.norm.ppf(0.975)
    half = reach * steps.std(axis=(1, 2)) / math.sqrt(5 * 48)

    assert np.mean(abs(steps.mean(axis=(1, 2)) - truth) <= half) < 0.6
