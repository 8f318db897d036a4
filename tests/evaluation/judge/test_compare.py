from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from moeprof.evaluation.judge.compare import claims_gain, compare

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Any]

MEAN, P95, P99 = (f"step_latency_seconds.{name}" for name in ("mean", "p95", "p99"))
JOULES = "joules_per_token.mean"


@pytest.mark.parametrize("metric", [MEAN, "step_latency_seconds.p50", P95, P99, JOULES])
def test_a_run_is_as_good_as_itself_exactly(metric: str, run: Make, scene: Make, ar1: Make) -> None:
    only = run("top-k", ar1(np.random.default_rng(0), (5, 20)))

    found = compare(scene(only), only, only, metric, seed=0)

    assert found is not None
    assert (found.difference.low, found.difference.high) == (0, 0)
    assert found.ratio is not None
    assert (found.ratio.low, found.ratio.estimate, found.ratio.high) == (1, 1, 1)
    assert not found.is_different


@pytest.mark.parametrize("metric", [MEAN, P95, P99, JOULES])
def test_what_needs_a_tenth_less_of_everything_gains_a_tenth(
    metric: str, run: Make, scene: Make, ar1: Make
) -> None:
    seconds = ar1(np.random.default_rng(0), (5, 20))
    slow, fast = run("slow", seconds), run("fast", 0.9 * seconds)
    runs = scene(slow, fast)

    found = compare(runs, fast, slow, metric, seed=0)

    assert found is not None
    assert found.ratio is not None
    assert (found.ratio.low, found.ratio.high) == pytest.approx((0.9, 0.9))
    assert claims_gain(runs, fast, slow, metric, seed=0, num_claims=50)
    assert not claims_gain(runs, slow, fast, metric, seed=0)


def test_joules_are_of_a_token_and_not_of_a_step(run: Make, scene: Make) -> None:
    seconds = np.ones((3, 4))
    some, more = run("a", seconds, joules=seconds * 8), run("b", seconds, joules=seconds * 12)

    found = compare(scene(some, more, batch_size=4), more, some, JOULES, seed=0)

    assert found is not None
    assert found.difference.estimate == 1


def test_one_seed_claims_nothing(run: Make, scene: Make) -> None:
    slow, fast = run("slow", np.full((1, 9), 2.0)), run("fast", np.ones((1, 9)))
    runs = scene(slow, fast)

    for metric in (MEAN, P95):
        found = compare(runs, fast, slow, metric, seed=0)
        assert found is not None
        assert found.ratio is not None
        assert (found.ratio.estimate, found.ratio.high) == (0.5, None)
        assert not claims_gain(runs, fast, slow, metric, seed=0)


def test_what_rounding_makes_less_is_no_gain(run: Make, scene: Make) -> None:
    seconds = np.full((5, 9), 0.3)
    one, other = run("one", seconds), run("other", seconds * (1 - 1e-15))

    assert not claims_gain(scene(one, other), other, one, MEAN, seed=0)


def test_a_claim_among_many_takes_more(run: Make, scene: Make) -> None:
    random = np.random.default_rng(4)
    seconds = random.normal(1, 0.01, (6, 20))
    slow, fast = run("slow", seconds), run("fast", seconds - random.normal(0.004, 0.004, (6, 1)))
    runs = scene(slow, fast)

    assert claims_gain(runs, fast, slow, MEAN, seed=0)
    assert not claims_gain(runs, fast, slow, MEAN, seed=0, num_claims=1000)


def test_cross_entropy_without_a_live_model_is_not_compared(run: Make, scene: Make) -> None:
    one, other = run("one", np.ones((3, 4))), run("other", np.ones((3, 4)))
    metric = "delta_cross_entropy_nats.mean"

    assert compare(scene(one, other), one, other, metric, seed=0) is None


@pytest.mark.parametrize("num_seeds", [3, 10])
@pytest.mark.parametrize("metric", [MEAN, JOULES])
def test_equal_policies_differ_once_in_twenty_scenes(
    metric: str, num_seeds: int, run: Make, scene: Make, ar1: Make
) -> None:
    steps = ar1(np.random.default_rng(num_seeds), (1000, 2, num_seeds, 24))
    num_different = num_claimed = 0
    for one, other in steps:
        first, second = run("first", one), run("second", other)
        runs = scene(first, second)
        found = compare(runs, first, second, metric, seed=0)
        assert found is not None
        num_different += found.is_different
        num_claimed += claims_gain(runs, first, second, metric, seed=0)

    # What 1,000 trials of 5 % come to in all but one of 1,000 cases.
    assert num_different <= stats.binom.ppf(0.999, 1000, 0.05)
    assert num_claimed <= 50


@pytest.mark.parametrize("metric", [P95, P99])
def test_equal_policies_do_not_gain_in_their_tails(
    metric: str, run: Make, scene: Make, ar1: Make
) -> None:
    steps = ar1(np.random.default_rng(0), (300, 2, 10, 24))
    num_claimed = 0
    for one, other in steps:
        first, second = run("first", one), run("second", other)
        num_claimed += claims_gain(scene(first, second), first, second, metric, seed=0)

    assert num_claimed <= stats.binom.ppf(0.999, 300, 0.05)


def test_drawing_all_seeds_from_all_is_widened_to_what_new_seeds_would_do(
    run: Make, scene: Make
) -> None:
    one, other = run("one", np.array([[1.0] * 3, [2.0] * 3])), run("other", np.ones((2, 3)))

    found = compare(scene(one, other), one, other, "step_latency_seconds.p50", seed=0)

    # Medians 1, 1.5 and 2 of one, two and one in four resamples: a deviation of sqrt(1/8), times
    # sqrt(2) for two seeds, times t(1 degree, 97.5 %) = 12.706.
    assert found is not None
    assert found.difference.high == pytest.approx(0.5 + 12.706 / 2, rel=0.1)
