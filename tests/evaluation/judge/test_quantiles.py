from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moeprof.evaluation.judge.quantiles import NUM_RESAMPLES, draw_seeds, quantile, resampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Make = Callable[..., Any]


@given(
    values=arrays(
        float, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.integers(0, 9)
    ),
    share=st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_a_resample_is_the_drawn_seeds_laid_end_to_end(
    values: NDArray[np.float64], share: float, seed: int
) -> None:
    drawn = np.random.default_rng(seed).multinomial(len(values), [1 / len(values)] * len(values), 5)

    found = resampled(values, share, drawn)

    by_hand = [np.quantile(np.repeat(values, counts, axis=0), share) for counts in drawn]
    assert found == pytest.approx(by_hand)


def test_every_resample_draws_as_many_seeds_as_there_are() -> None:
    drawn = draw_seeds(7, seed=1)

    assert drawn.shape == (NUM_RESAMPLES, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert (drawn == draw_seeds(7, seed=1)).all()
    assert (drawn != draw_seeds(7, seed=2)).any()


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_bounds_hold_the_truth_at_least_about_as_often_as_they_say(
    num_seeds: int, share: float, ar1: Make
) -> None:
    random = np.random.default_rng(num_seeds)
    truth = np.quantile(ar1(random, (20_000, 24)), share)
    found = [quantile(each, share) for each in ar1(random, (500, num_seeds, 24))]
    held = [
        (each.low is None or each.low <= truth) and (each.high is None or truth <= each.high)
        for each in found
    ]

    assert np.mean(held) >= 0.91


def test_no_step_says_how_far_out_the_highest_percentile_may_lie() -> None:
    values = np.random.default_rng(0).normal(size=(3, 48))

    found = quantile(values, 0.99)

    assert found.high is None
    assert found.low is not None
    assert found.low < found.estimate


def test_one_seed_bounds_no_quantile_and_equal_steps_are_certain() -> None:
    assert quantile(np.arange(9.0)[None], 0.5).low is None
    equal = quantile(np.full((3, 8), 2.0), 0.95)
    assert (equal.low, equal.estimate, equal.high) == (2, 2, 2)


def test_seeds_that_agree_by_accident_are_no_certainty() -> None:
    # In each seed exactly half of the steps are at or below the median.
    found = quantile(np.tile(np.arange(10.0), (4, 1)), 0.5)

    assert found.low is None or found.low < found.estimate
