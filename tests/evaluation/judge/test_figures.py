from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moeprof.evaluation.bootstrap import mean_per_token
from moeprof.evaluation.judge.figures import NOT_LIVE, cross_entropy, figures

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Any]


def test_figures_are_of_all_steps_of_all_seeds(run: Make, scene: Make) -> None:
    seconds = np.arange(1.0, 21.0).reshape(2, 10)
    policy = run("p", seconds, active=np.arange(20.0).reshape(2, 10), peak=81.0, throttled=0.25)

    found = figures(scene(policy, batch_size=5), policy, seed=0)

    assert found.step_latency.estimate == 10.5
    assert found.p50_seconds == 10.5
    assert found.p95_seconds == pytest.approx(19.05)
    assert found.joules_per_token.estimate == pytest.approx(10.5 * 1000 / 5)
    assert found.active_experts.estimate == 9.5
    assert (found.peak_celsius.estimate, found.throttled.estimate) == (81, 0.25)


def test_who_leaves_experts_alone_loses_exactly_nothing(run: Make, scene: Make) -> None:
    policy = run("p", np.ones((3, 4)), claim="exact")

    found = figures(scene(policy), policy, seed=0)

    assert found.cross_entropy is not None
    assert (found.cross_entropy.low, found.cross_entropy.high) == (0, 0)
    assert found.cross_entropy_reason is None


def test_what_no_model_said_is_unknown_with_a_reason(run: Make, scene: Make) -> None:
    policy = run("p", np.ones((3, 4)))

    found = figures(scene(policy), policy, seed=0)

    assert found.cross_entropy is None
    assert found.cross_entropy_reason == NOT_LIVE


def test_cross_entropy_is_bounded_over_requests_and_not_over_tokens(run: Make, scene: Make) -> None:
    random = np.random.default_rng(0)
    of_request = random.normal(size=(3, 1, 4))
    losses = of_request + 0.01 * random.normal(size=(3, 50, 4))
    policy = run("p", np.ones((3, 50)), losses=losses)
    runs = scene(policy, traffic="live")

    found = cross_entropy(runs, policy, seed=5)

    sums = losses.sum(axis=1).ravel()
    expected = mean_per_token(sums, np.full(12, 50), seed=5).interval
    assert (found.low, found.estimate, found.high) == pytest.approx(
        (expected.low, expected.estimate, expected.high)
    )
    assert found.high - found.low > 0.5  # 600 tokens would have it below 0.2


def test_too_few_requests_bound_nothing(run: Make, scene: Make) -> None:
    losses = np.ones((2, 3, 2))
    policy = run("p", np.ones((2, 3)), losses=losses)

    found = cross_entropy(scene(policy, batch_size=2, traffic="live"), policy, seed=0)

    assert (found.estimate, found.low, found.high) == (1, None, None)
