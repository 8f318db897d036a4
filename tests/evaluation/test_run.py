"""Claims about scenes run with all their policies: whichever way they are spread over processes."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from evaluation.scenes import changed, scene_of, shipped

from moeprof.errors import RecipeError
from moeprof.evaluation.run import evaluate, notes_of, policies_of, settings_of

if TYPE_CHECKING:
    from moeprof.evaluation.runs import SceneRuns
    from moeprof.recipe.load_scene import LoadedScene

TEXT = """
question = "Who is faster?"
num_seeds = 2
[model]
layer = "gpt-oss-20b"
[traffic]
kind = "generated"
batch_size = 4
num_settling_steps = 1
num_steps = 3
num_layers = 2
[gpus]
specification = "h200-sxm"
num_gpus = 4
[placement]
strategy = "eplb"
num_replicas = 8
"""
OWN = """
[[policies]]
name = "metro"
dispatcher = "metro"
[[policies]]
name = "marginal-cost"
router = "marginal-cost"
dispatcher = "marginal-cost"
settings = [{ lambda_ = 0.3 }, { lambda_ = 0.1 }]
[[policies]]
name = "sere"
router = "sere"
"""


def ignore(scene: str, num_done: int, num_settings: int) -> None:
    """Nobody watches."""


def spread(scenes: list[LoadedScene], num_workers: int, **given: Any) -> dict[str, SceneRuns]:
    return evaluate(scenes, None, num_workers=num_workers, on_progress=ignore, **given)


def assert_same(one: SceneRuns, other: SceneRuns) -> None:
    def same(left: Any, right: Any, where: str) -> None:
        assert type(left) is type(right), where
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, where
            assert left.tobytes() == right.tobytes(), where
        elif isinstance(left, dict):
            assert list(left) == list(right), where
            for key in left:
                same(left[key], right[key], f"{where}.{key}")
        else:
            assert left == right, where

    for field in fields(one):
        if field.name != "runs":
            same(getattr(one, field.name), getattr(other, field.name), field.name)
    assert len(one.runs) == len(other.runs)
    for left, right in zip(one.runs, other.runs, strict=True):
        for field in fields(left):
            where = f"{left.policy} {dict(left.setting)} {field.name}"
            same(getattr(left, field.name), getattr(right, field.name), where)


@pytest.mark.parametrize("kind", ["recorded", pytest.param("live", marks=pytest.mark.slow)])
def test_one_worker_or_two_leave_the_same_bytes(kind: str) -> None:
    traffic = {"kind": kind, "num_settling_steps": 1, "num_steps": 3, "batch_size": 4}
    names = ["metro", "random", "sere", "marginal-exact", "marginal-cost"]
    scenes = [scene_of(TEXT, "generated"), shipped("one-slow-gpu", num_seeds=2, traffic=traffic)]
    told: list[tuple[int, int]] = []

    alone = evaluate(
        scenes,
        None,
        num_workers=1,
        only=names,
        on_progress=lambda scene, done, of: told.append((done, of)),
    )
    shared = spread(scenes, 2, only=names)

    assert list(alone) == list(shared) == ["generated", "one-slow-gpu"]
    for name, runs in alone.items():
        assert_same(runs, shared[name])
    assert told[-1][0] == told[-1][1] == sum(len(runs.runs) for runs in alone.values())


def test_the_baseline_comes_first_and_plain_top_k_where_the_scene_has_none() -> None:
    loaded = scene_of(TEXT + OWN)
    found = spread([loaded], 1)["small"]

    assert [(run.policy, dict(run.setting)) for run in found.runs] == [
        ("top-k", {}),
        ("metro", {}),
        ("marginal-cost", {"lambda_": 0.3}),
        ("marginal-cost", {"lambda_": 0.1}),
    ]
    assert found.baseline == "top-k"
    assert found.requests.shape == (2, 3, 4)
    assert len(np.unique(found.requests[0])) + len(np.unique(found.requests[1])) == len(
        np.unique(found.requests)
    )


def test_a_policy_that_cannot_run_is_left_out_and_the_runs_say_why() -> None:
    loaded = scene_of(TEXT + OWN)

    note = "sere did not run: it needs experts' outputs, and generated traffic has none."
    assert notes_of(loaded) == (note,)
    assert spread([loaded], 1, only=["metro", "sere"])["small"].notes == (note,)
    assert "sere" not in [policy.name for policy in policies_of(scene_of(TEXT))]
    assert notes_of(changed(loaded, traffic={"kind": "recorded"})) == ()
    without = replace(
        loaded, scene=loaded.scene.model_copy(update={"policies": loaded.scene.policies[:2]})
    )
    assert notes_of(without) == ()


def test_only_some_policies_run_with_the_baseline_and_a_sweep_adds_lambdas() -> None:
    loaded = scene_of('baseline = "metro"\n' + TEXT + OWN)
    found = settings_of(loaded, only=["marginal-cost"], lambdas=[0.1, 0.7])

    assert [(policy.name, dict(setting)) for policy, setting in found] == [
        ("metro", {}),
        ("marginal-cost", {"lambda_": 0.3}),
        ("marginal-cost", {"lambda_": 0.1}),
        ("marginal-cost", {"lambda_": 0.7}),
    ]


def test_a_policy_that_is_not_there_and_a_baseline_that_cannot_run_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"small.toml: has no policy 'metr'"):
        settings_of(scene_of(TEXT + OWN), only=["metr"])
    with pytest.raises(RecipeError, match=r"baseline must be one of top-k, .*, got 'metr'$"):
        settings_of(scene_of('baseline = "metr"\n' + TEXT))
    with pytest.raises(RecipeError, match="baseline 'sere': it needs experts' outputs"):
        settings_of(scene_of('baseline = "sere"\n' + TEXT + OWN))


def test_a_mistake_in_a_worker_reaches_the_caller() -> None:
    loaded = scene_of(TEXT + OWN.replace("lambda_ = 0.3", "lambda_ = -1"))

    with pytest.raises(RecipeError, match=r"small.toml: policy 'marginal-cost': .*lambda_ must be"):
        spread([loaded], 2)


def test_replicas_that_memory_has_no_room_for_are_said_to_be_missing() -> None:
    slot_bytes = 3 * 2880**2 * 2 * 24  # an expert in bf16 in every MoE layer of the model
    model = {"weight_dtype": "bf16"}
    room = changed(scene_of(TEXT), model=model, gpus={"free_bytes": 2 * slot_bytes})
    tight = changed(room, gpus={"free_bytes": slot_bytes})

    note = "gpus.free_bytes has room for 4 of 8 replicas, so there are no more."
    assert spread([tight], 1, only=["top-k"])["small"].notes == (*notes_of(tight), note)
    assert spread([room], 1, only=["top-k"])["small"].notes == notes_of(room)


def test_what_a_cost_model_does_not_know_is_named_by_the_scenes_key() -> None:
    loaded = scene_of(TEXT + OWN)
    model = loaded.scene.model.model_copy(update={"kernel": "none-such"})
    other = replace(loaded, scene=loaded.scene.model_copy(update={"model": model}))

    with pytest.raises(RecipeError, match=r"small.toml: model.kernel must be .* got 'none-such'"):
        spread([other], 1)
