from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.evaluation.judge.metrics import JOULES, LATENCY
from moeprof.evaluation.judge.pareto import front, undominated

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from moeprof.evaluation.judge.pareto import Duel, Front

    Make = Callable[..., Any]

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=9)


@given(POINTS)
@settings(max_examples=100, deadline=None)
def test_the_front_is_what_no_other_point_beats(points: list[tuple[int, int]]) -> None:
    losses, costs = np.array(points, float).T

    found = undominated(losses, costs)

    for (loss, cost), is_best in zip(points, found, strict=True):
        beaten = any(
            each <= loss and other <= cost and (each, other) != (loss, cost)
            for each, other in points
        )
        assert is_best == (not beaten)


def steady(value: float, num_seeds: int = 5) -> NDArray[np.float64]:
    return np.full((num_seeds, 6), value)


def duel(found: Front, policy: str, rival: str) -> Duel:
    return next(each for each in found.duels if (each.policy, each.rival) == (policy, rival))


def test_a_rival_counts_with_the_best_it_has_at_this_quality(run: Make, scene: Make) -> None:
    ours = run("ours", steady(9.0), mass=0.96)
    rivals = [
        run("rival", steady(10.0), mass=0.97, setting={"k": 1}),
        run("rival", steady(9.5), mass=0.96, setting={"k": 2}),
        run("rival", steady(1.0), mass=0.90, setting={"k": 3}),
    ]

    found = duel(front(scene(ours, *rivals), LATENCY), "ours", "rival")

    assert found.verdict == "dominates"
    assert found.matches[0].ratio is not None
    assert found.matches[0].ratio.estimate == pytest.approx(9 / 9.5)


def test_the_other_way_round_the_rival_is_dominated_where_we_match_it(
    run: Make, scene: Make
) -> None:
    ours = run("ours", steady(9.0), mass=0.96)
    rivals = [
        run("rival", steady(10.0), mass=0.97, setting={"k": 1}),
        run("rival", steady(9.5), mass=0.96, setting={"k": 2}),
        run("rival", steady(1.0), mass=0.90, setting={"k": 3}),
    ]

    found = duel(front(scene(ours, *rivals), LATENCY), "rival", "ours")

    assert [match.standing for match in found.matches] == ["unmatched", "worse", "better"]
    assert found.verdict == "mixed"


@pytest.mark.parametrize(
    ("cost", "verdict"),
    [(9.0, "dominates"), (9.95, "ties"), (10.0, "ties"), (10.05, "ties"), (10.5, "is dominated")],
)
def test_a_hundredth_more_or_less_is_a_tie(
    cost: float, verdict: str, run: Make, scene: Make
) -> None:
    ours = run("ours", steady(cost), claim="exact")
    rival = run("rival", steady(10.0), claim="exact")

    assert duel(front(scene(ours, rival), LATENCY), "ours", "rival").verdict == verdict


def test_what_no_rival_reaches_in_quality_is_unmatched(run: Make, scene: Make) -> None:
    ours = run("ours", steady(9.0), claim="exact")
    rival = run("rival", steady(1.0), mass=0.5)

    found = duel(front(scene(ours, rival), LATENCY), "ours", "rival")

    assert found.verdict == "unmatched"
    assert found.matches[0].ratio is None


def test_a_rival_whose_quality_is_not_shown_to_be_less_has_the_benefit_of_the_doubt(
    run: Make, scene: Make
) -> None:
    random = np.random.default_rng(1)
    losses = random.normal(0.0, 0.5, (5, 6, 4))
    ours = run("ours", steady(10.0), claim="exact")
    rival = run("rival", steady(8.0), losses=losses - losses.mean() + 0.01)
    slow = run("rival", steady(12.0), claim="exact", setting={"k": 0})
    runs = scene(ours, rival, slow, traffic="live")

    # By estimates the rival has 12 at our quality; its 8 may have it as well.
    found = duel(front(runs, LATENCY), "ours", "rival")

    assert found.verdict == "cannot tell"


def test_quality_is_nats_where_the_model_ran_and_gate_mass_where_not(
    run: Make, scene: Make
) -> None:
    losses = np.full((5, 6, 4), 0.25)
    policy = run("ours", steady(1.0), mass=0.9, losses=losses)

    live, recorded = (front(scene(policy, traffic=each), JOULES) for each in ("live", "recorded"))

    assert live.quality_loss == "delta_cross_entropy_nats"
    assert live.points[0].loss.estimate == 0.25
    assert recorded.quality_loss == "gate_mass_lost_fraction"
    assert recorded.points[0].loss.estimate == pytest.approx(0.1)


def test_one_seed_decides_no_duel(run: Make, scene: Make) -> None:
    ours, rival = run("a", steady(1.0, 1), claim="exact"), run("b", steady(2.0, 1), claim="exact")

    found = front(scene(ours, rival), LATENCY)

    assert {each.verdict for each in found.duels} == {"cannot tell"}
    assert [point.is_on_front for point in found.points] == [True, False]


def test_equal_policies_rarely_win_or_lose_a_duel(run: Make, scene: Make) -> None:
    random = np.random.default_rng(0)
    num_won = num_lost = 0
    num_trials = 200
    for _ in range(num_trials):
        policies = []
        for name in ("ours", "rival"):
            for loss, cost in ((0.002, 1.0), (0.006, 0.93), (0.012, 0.85)):
                losses = random.normal(loss, 0.1, (10, 8, 16))
                seconds = random.normal(cost, 0.05, (10, 8))
                policies.append(run(name, seconds, losses=losses, setting={"loss": loss}))
        found = front(scene(*policies, traffic="live", batch_size=16), LATENCY)
        verdict = duel(found, "ours", "rival").verdict
        num_won += verdict in {"dominates", "mixed"}
        num_lost += verdict in {"is dominated", "mixed"}

    assert num_won <= 0.05 * num_trials
    assert num_lost <= 0.05 * num_trials


def test_more_to_choose_from_makes_the_lower_bound_wider_and_the_upper_none(
    run: Make, scene: Make
) -> None:
    random = np.random.default_rng(0)
    ours = run("ours", random.normal(1.0, 0.05, (5, 6)), claim="exact")
    rival = run("rival", random.normal(1.0, 0.05, (5, 6)), claim="exact")
    dearer = [run("rival", steady(3.0), claim="exact", setting={"k": k}) for k in range(4)]

    few = duel(front(scene(ours, rival), LATENCY), "ours", "rival").matches[0].ratio
    many = duel(front(scene(ours, rival, *dearer), LATENCY), "ours", "rival").matches[0].ratio

    assert few is not None
    assert many is not None
    assert few.low is not None
    assert many.low is not None
    assert many.low < few.low
    assert (many.estimate, many.high) == (few.estimate, few.high)


def test_every_setting_that_a_policy_tries_makes_its_upper_bound_wider(
    run: Make, scene: Make
) -> None:
    random = np.random.default_rng(0)
    ours = run("ours", random.normal(1.0, 0.05, (5, 6)), claim="exact")
    cheaper = run("ours", steady(0.5), mass=0.9)
    rival = run("rival", random.normal(1.0, 0.05, (5, 6)), claim="exact")

    once = duel(front(scene(ours, rival), LATENCY), "ours", "rival").matches[0].ratio
    twice = duel(front(scene(ours, cheaper, rival), LATENCY), "ours", "rival").matches[0].ratio

    assert once is not None
    assert twice is not None
    assert once.high is not None
    assert twice.high is not None
    assert twice.high > once.high
