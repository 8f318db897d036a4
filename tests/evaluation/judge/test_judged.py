from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moeprof.evaluation.judge.document import rounded
from moeprof.evaluation.judge.judged import judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.evaluation.runs import SceneRuns

    Make = Callable[..., Any]


@pytest.fixture
def runs(run: Make, scene: Make) -> SceneRuns:
    random = np.random.default_rng(0)
    seconds = random.normal(1.0, 0.02, (5, 12))
    losses = random.normal(0.004, 0.05, (5, 12, 4))
    return scene(
        run("top-k", seconds, claim="exact"),
        run("ours", seconds * 0.9, losses=losses, setting={"lambda": 0.5}),
        run("ours", seconds * 0.8, losses=losses * 3, setting={"lambda": 1.0}),
        run("noise", random.normal(1.0, 0.02, (5, 12)), claim="exact"),
        traffic="live",
    )


def test_the_document_has_the_keys_that_were_promised(runs: SceneRuns) -> None:
    document = judge(runs, seed=0).document()

    assert set(document) == {"routers", "pareto", "power_versus_performance"}
    assert list(document["routers"]) == ["top-k", "ours", "noise"]
    ours = document["routers"]["ours"]
    assert list(ours) == [
        *("setting", "claim", "hardware", "step_latency_seconds", "joules_per_token"),
        *("active_experts", "peak_celsius", "throttled_seconds", "delta_cross_entropy_nats"),
        *("gate_mass_retained", "selections_changed_fraction", "router_seconds"),
    ]
    assert list(ours["step_latency_seconds"]) == ["mean", "p50", "p95", "p99", "low", "high"]
    assert list(ours["joules_per_token"]) == ["mean", "low", "high"]
    assert list(ours["delta_cross_entropy_nats"]) == ["mean", "low", "high"]
    assert isinstance(document["pareto"], list)


def test_the_table_has_the_first_setting_and_the_fronts_have_all(runs: SceneRuns) -> None:
    judged = judge(runs, seed=0)

    assert [each.setting for each in judged.policies] == [{}, {"lambda": 0.5}, {}]
    assert [len(each.points) for each in judged.fronts] == [4, 4]
    assert len(judged.settings) == 4


def test_only_who_needs_less_claims_a_gain(runs: SceneRuns) -> None:
    found = {each.policy: each.gains for each in judge(runs, seed=0).against_baseline}

    assert found["noise"] == frozenset()
    assert found["ours"] == {
        "step_latency_seconds.mean",
        "step_latency_seconds.p95",
        "joules_per_token.mean",
    }


def test_a_seed_gives_one_document_byte_for_byte(runs: SceneRuns) -> None:
    first, again, other = (json.dumps(judge(runs, seed=seed).document()) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_without_its_baseline_a_scene_is_judged_all_the_same(run: Make, scene: Make) -> None:
    judged = judge(scene(run("ours", np.ones((3, 4)))), seed=0)

    assert judged.against_baseline == ()
    assert judged.document()["power_versus_performance"]["verdict"] == "cannot tell"


def test_numbers_forget_the_bits_that_machines_differ_in() -> None:
    found = rounded({"a": [0.1 + 0.2, 1e-17], "b": (float("inf"), 3, True, None, "x")})

    assert found == {"a": [0.3, 0.0], "b": [None, 3, True, None, "x"]}
    assert rounded(1.23456789012e-6) == 1.23456789e-6
