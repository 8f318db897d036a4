from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moeprof.errors import InputError, RecipeError
from moeprof.evaluation.judge.gates import judge_gates, more_seeds, overall, verdict_of
from moeprof.evaluation.judge.judged import judge
from moeprof.evaluation.judge.since import less, over
from moeprof.evaluation.judge.stored import StoredResult, read_stored
from moeprof.evaluation.judge.student import Estimated
from moeprof.recipe.gates import METRICS, GateSection

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.evaluation.judge.gates import GateJudged
    from moeprof.evaluation.runs import SceneRuns

    Make = Callable[..., Any]

PATH = Path("gates.toml")
P95 = "step_latency_seconds.p95"


def gate(**keys: Any) -> GateSection:
    return GateSection(**{"name": "g", "policy": "ours", "metric": P95, **keys})


@pytest.fixture
def runs(run: Make, scene: Make) -> SceneRuns:
    seconds = np.random.default_rng(0).normal(1.0, 0.02, (5, 12))
    return scene(
        run("top-k", seconds, claim="exact"),
        run("ours", seconds * 0.9, mass=0.97, active=13),
        run("rival", seconds * 0.95),
    )


def judged(
    runs: SceneRuns, *gates: GateSection, stored: StoredResult | None = None
) -> tuple[GateJudged, ...]:
    return judge_gates(gates, {runs.scene: runs}, path=PATH, seed=0, stored=stored)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_that_a_file_may_name_is_found(metric: str, run: Make, scene: Make) -> None:
    only = run("ours", np.ones((7, 4)), losses=np.zeros((7, 4, 4)))
    margin = {"at_least": -1.0} if metric.endswith(".low") else {"at_most": 1e4}

    found = judged(scene(only, traffic="live"), gate(metric=metric, **margin))

    assert found[0].verdict == "pass"


@pytest.mark.parametrize(
    ("low", "high", "at_least", "verdict"),
    [
        (0.8, 0.9, False, "pass"),
        (0.8, 1.0, False, "pass"),
        (0.9, 1.1, False, "inconclusive"),
        (1.1, 1.2, False, "fail"),
        (1.1, 1.2, True, "pass"),
        (0.9, 1.1, True, "inconclusive"),
        (0.8, 0.9, True, "fail"),
        (None, 0.9, False, "pass"),
        (0.9, None, False, "inconclusive"),
        (1.1, None, False, "fail"),
        (None, 0.9, True, "fail"),
        (1.0 + 1e-13, 1.0 + 1e-13, False, "pass"),
    ],
)
def test_a_gate_passes_or_fails_by_the_bound_that_matters(
    *, low: float | None, high: float | None, at_least: bool, verdict: str
) -> None:
    assert verdict_of(Estimated(1.0, low, high), 1.0, at_least=at_least) == verdict


def test_bounds_come_nearer_with_the_root_of_the_seeds() -> None:
    found = Estimated(0.95, 0.85, 1.05)

    # A half-width of 0.1 has to become 0.05: four times the seeds.
    assert more_seeds(found, 1.0, num_seeds=5) == 15
    assert more_seeds(found, 0.9, num_seeds=5) == 15


def test_more_seeds_are_not_promised_where_they_cannot_help() -> None:
    found = Estimated(1.0, 0.9, 1.1)

    assert more_seeds(found, 1.0, num_seeds=5) is None
    assert more_seeds(found, 1.0001, num_seeds=5) is None  # a million times
    assert more_seeds(Estimated(1.0, None, None), 1.1, num_seeds=5) is None
    assert more_seeds(found, 1.05, num_seeds=5, fixed_half=0.05) is None
    assert more_seeds(Estimated(1.0, None, None), 1.1, num_seeds=1) == 1
    assert more_seeds(Estimated(1.0, 0.9, None), 1.05, num_seeds=5) == 15


def test_gates_hold_a_policy_against_another_of_the_same_seeds(runs: SceneRuns) -> None:
    found = judged(
        runs,
        gate(against="rival", at_most_ratio=0.96),
        gate(against="rival", at_most_ratio=0.9),
        gate(metric="step_latency_seconds.mean", against="top-k", at_most_difference=-0.09),
        gate(metric="active_experts", at_most=13),
        gate(metric="gate_mass_retained", at_least=0.98),
    )

    verdicts = [each.verdict for each in found]
    assert verdicts == ["pass", "fail", "pass", "pass", "fail"]
    assert found[0].found.estimate == pytest.approx(0.9 / 0.95)
    assert overall(found) == "fail"


def test_an_undecided_gate_says_how_many_more_seeds_it_needs(run: Make, scene: Make) -> None:
    seconds = np.repeat([[0.9], [1.0], [1.1]], 4, axis=1)
    gates = [gate(metric="step_latency_seconds.mean", at_most=1.1)]

    found = judge_gates(gates, {"a": scene(run("ours", seconds))}, path=PATH, seed=0)

    # A half-width of 4.303 x 0.1 / sqrt(3) = 0.2484 has to become 0.1: 6.17 times the seeds.
    assert found[0].verdict == "inconclusive"
    assert found[0].num_more_seeds == 19 - 3
    assert overall(found) == "inconclusive"
    assert found[0].document() == {
        "name": "g",
        "scene": "a",
        "verdict": "inconclusive",
        "margin": 1.1,
        "estimate": 1.0,
        "low": pytest.approx(0.7515862),
        "high": pytest.approx(1.2484138),
        "num_more_seeds": 16,
    }


def test_a_star_is_every_scene_that_has_the_policies_and_knows_the_metric(
    run: Make, scene: Make
) -> None:
    ours, other = run("ours", np.ones((3, 4))), run("other", np.ones((3, 4)))
    live = run("ours", np.ones((3, 4)), losses=np.zeros((3, 4, 4)))
    scenes = {"a": scene(ours), "b": scene(other), "c": scene(live, traffic="live")}
    gates = [
        gate(name="time", at_most=2),
        gate(name="loss", metric="delta_cross_entropy_nats.high", at_most=0.01),
    ]

    found = judge_gates(gates, scenes, path=PATH, seed=0)

    assert [(each.name, each.scene) for each in found] == [
        ("time", "a"),
        ("time", "c"),
        ("loss", "c"),
    ]
    assert overall(found) == "pass"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"scene": "a-scen", "at_most": 1}, r"gates.toml: gate 'g': no scene 'a-scen' .*'a-scene'"),
        ({"policy": "our", "at_most": 1}, r"no policy 'our' was run; did you mean 'ours'\?"),
        ({"policy": "zzz", "at_most": 1}, "there are top-k, ours, rival"),
        (
            {"scene": "a-scene", "against": "rivals", "at_most_ratio": 1},
            r"scene 'a-scene': no policy 'rivals' was run; did you mean 'rival'\?",
        ),
        (
            {"scene": "a-scene", "metric": "delta_cross_entropy_nats.high", "at_most": 1},
            "is not known in scene 'a-scene', whose traffic is recorded",
        ),
        (
            {"metric": "delta_cross_entropy_nats.high", "at_most": 1},
            "no scene that was run .* knows delta_cross_entropy_nats.high",
        ),
        (
            {"metric": "throttled_seconds", "against": "rival", "at_most_ratio": 1},
            "throttled_seconds of rival is 0, to which there is no ratio",
        ),
    ],
)
def test_a_gate_that_nothing_answers_is_named(
    keys: dict[str, Any], words: str, runs: SceneRuns
) -> None:
    with pytest.raises(RecipeError, match=words):
        judged(runs, gate(**keys))


def test_a_stored_result_is_compared_with_as_it_was_written(
    runs: SceneRuns, tmp_path: Path
) -> None:
    path = tmp_path / "result.json"
    document = {"scenes": {"a-scene": judge(runs, seed=0).document()}}
    path.write_text(json.dumps(document), encoding="utf-8")
    stored = read_stored(path)
    mean = "step_latency_seconds.mean"

    found = judged(
        runs,
        gate(against="stored", metric=mean, at_most_ratio=1.1),
        gate(against="stored", metric=mean, at_most_ratio=0.9),
        gate(against="stored", metric="step_latency_seconds.p50", at_most_difference=0.1),
        stored=stored,
    )

    assert [each.verdict for each in found] == ["pass", "fail", "pass"]
    figure = judge(runs, seed=0).policies[1].step_latency
    half = (figure.high - figure.estimate) / figure.estimate * np.sqrt(2)
    assert found[0].found.high - 1 == pytest.approx(half, rel=1e-4)


def test_independent_figures_add_their_widths_in_quadrature() -> None:
    now, then = Estimated(10.0, 7.0, 13.0), Estimated(5.0, 1.0, 9.0)

    difference, part = less(now, then)
    ratio, ratio_part = over(now, then)

    assert (difference.low, difference.estimate, difference.high, part) == (0, 5, 10, 4)
    assert (ratio.estimate, ratio_part) == (2, pytest.approx(1.6))
    assert ratio.high == pytest.approx(2 + np.hypot(3, 8) / 5)
    assert ratio.low == pytest.approx(2 - np.hypot(3, 8) / 5)


def test_an_earlier_figure_without_bounds_is_as_uncertain_as_todays() -> None:
    ratio, part = over(Estimated(2.0, 1.8, 2.2), Estimated(1.0, None, None))

    assert ratio.high == pytest.approx(2 + np.sqrt(2) * 0.2)
    assert part == 0
    assert over(Estimated(2.0, 1.8, None), Estimated(1.0, None, None))[0].high is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not a JSON document"),
        ("[]", "must be a result of route-eval"),
        ('{"scenes": []}', "must be a result of route-eval"),
    ],
)
def test_what_is_no_stored_result_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=words):
        read_stored(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_stored(tmp_path / "none.json")


def test_a_stored_result_without_the_figure_says_what_it_lacks() -> None:
    stored = StoredResult(Path("r.json"), {"scenes": {"a": {"routers": {"ours": {"x": None}}}}})

    with pytest.raises(InputError, match=r"r.json: has no scenes.b, which a gate"):
        stored.figure("b", "ours", "x")
    with pytest.raises(InputError, match=r"has no scenes.a.routers.ours.y"):
        stored.figure("a", "ours", "y.mean")
    with pytest.raises(InputError, match=r"scenes.a.routers.ours.x: must be a number, got None"):
        stored.figure("a", "ours", "x")
