from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moeprof.evaluation.judge.figures import figures
from moeprof.evaluation.judge.question import power_against_performance, regrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from moeprof.evaluation.judge.question import PowerAgainstPerformance
    from moeprof.evaluation.runs import SceneRuns

    Make = Callable[..., Any]


def ask(runs: SceneRuns) -> PowerAgainstPerformance:
    return power_against_performance(runs, [figures(runs, each, seed=0) for each in runs.runs])


def steady(value: float) -> NDArray[np.float64]:
    return np.full((4, 6), value)


def test_two_goals_with_two_choices_are_different_and_regret_it(run: Make, scene: Make) -> None:
    fast = run("fast", steady(1.0), joules=steady(12.0))
    frugal = run("frugal", steady(1.25), joules=steady(10.0))

    found = ask(scene(fast, frugal))

    assert found.answer == "different"
    assert (found.best_latency.policy, found.best_energy.policy) == ("fast", "frugal")
    assert found.latency_regret.estimate == pytest.approx(0.25)
    assert found.energy_regret.estimate == pytest.approx(0.2)
    assert found.rank_correlation is None  # of two settings


def test_one_choice_for_both_goals_is_the_same_goal(run: Make, scene: Make) -> None:
    runs = [run(name, steady(cost)) for name, cost in (("a", 1.0), ("b", 2.0), ("c", 3.0))]

    found = ask(scene(*runs))

    assert found.answer == "same"
    assert (found.latency_regret.low, found.latency_regret.high) == (0, 0)
    assert found.rank_correlation == pytest.approx(1)


def test_of_equally_fast_settings_the_frugal_one_is_chosen(run: Make, scene: Make) -> None:
    wasteful = run("wasteful", steady(1.0), joules=steady(12.0))
    frugal = run("frugal", steady(1.0), joules=steady(10.0))

    assert ask(scene(wasteful, frugal)).answer == "same"


def test_settings_beyond_the_budget_are_left_out_with_a_reason(run: Make, scene: Make) -> None:
    runs = [
        run("kept", steady(2.0), mass=0.96),
        run("also-kept", steady(3.0), mass=0.95),
        run("rough", steady(1.0), mass=0.94),
    ]

    found = ask(scene(*runs))

    assert found.num_settings == 2
    assert found.best_latency.policy == "kept"
    assert [each.policy for each in found.left_out] == ["rough"]
    assert "94.0% of gate mass, of 95.0% asked for" in found.left_out[0].reason


def test_live_traffic_is_held_to_the_upper_end_of_its_cross_entropy(run: Make, scene: Make) -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.05, (4, 6, 4))
    noise -= noise.mean()
    runs = [
        run("top-k", steady(2.0), claim="exact"),
        run("sure", steady(1.5), losses=noise / 50 + 0.008),
        run("unsure", steady(1.0), losses=noise + 0.008),
    ]

    found = ask(scene(*runs, traffic="live"))

    assert found.best_latency.policy == "sure"
    assert [each.policy for each in found.left_out] == ["unsure"]


def test_who_drops_rows_is_left_out_only_where_compute_is_held_constant(
    run: Make, scene: Make
) -> None:
    runs = [run("a", steady(2.0)), run("b", steady(3.0)), run("drops", steady(1.0), dropped=0.5)]

    assert ask(scene(*runs)).best_latency.policy == "drops"
    held = ask(scene(*runs, constant=True))
    assert held.best_latency.policy == "a"
    assert "holds compute constant" in held.left_out[0].reason


def test_too_little_to_choose_from_has_a_reason(run: Make, scene: Make) -> None:
    alone = ask(scene(run("a", steady(1.0))))
    once = ask(scene(run("a", steady(1.0)[:1]), run("b", steady(2.0)[:1])))

    assert (alone.answer, alone.best_latency) == ("cannot tell", None)
    assert alone.reason == "1 of 1 settings may be chosen, and a choice takes two"
    assert (once.answer, once.latency_regret) == ("cannot tell", None)
    assert once.reason == "to choose and to judge takes 4 seeds, got 1"


def test_one_half_of_the_seeds_judges_what_the_other_chose() -> None:
    # Seeds 1 and 3 alone make setting 1 look fast, and so they are judged by setting 0.
    seconds = np.array([[1.0, 1.0, 1.0, 1.0], [1.25, 0.5, 1.25, 0.5]])
    joules = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]])

    latency, energy = regrets(seconds, joules)

    assert latency.estimate == pytest.approx((1 / 1.25 - 1) * 2 / 4)
    assert energy.estimate == pytest.approx((1 + 0 + 1 + 0) / 4)


def test_a_regret_has_the_spread_of_each_half_and_the_freedom_of_one() -> None:
    seconds = np.array([[1.0, 1.0, 1.0, 1.0], [1.1, 1.1, 1.3, 1.3]])
    joules = 2 - seconds

    latency, _ = regrets(seconds, joules)

    # Regrets 0.1 and 0.3 in both halves: variances of 0.02, t(1 degree, 97.5 %) = 12.706.
    half = 12.706205 * np.sqrt(2 * 0.02 + 2 * 0.02) / 4
    assert (latency.low, latency.high) == pytest.approx((0.2 - half, 0.2 + half))


def test_the_luckiest_of_many_equal_settings_is_no_regret() -> None:
    random = np.random.default_rng(0)
    held = naive = 0
    num_trials = 400
    for _ in range(num_trials):
        seconds, joules = random.normal(1, 0.02, (2, 20, 10))
        for regret in regrets(seconds, joules):
            held += regret.low <= 0 <= regret.high
        best = seconds.mean(axis=1).argmin()
        naive += joules[best].mean() / joules.mean(axis=1).min() - 1 > 0.005

    assert held / (2 * num_trials) >= 0.92
    # A choice on all seeds, judged by them, finds a regret where nothing tells goals apart.
    assert naive / num_trials > 0.8
