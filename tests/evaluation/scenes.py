"""Small scenes for tests: out of TOML text, or out of those that ship with some of it changed."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeprof.evaluation.seated import seat
from moeprof.evaluation.simulate import simulate
from moeprof.evaluation.stage import set_stage, shipped_cost
from moeprof.hardware import catalogue as gpus
from moeprof.recipe.load_scene import LoadedScene, find_scene, load_scene
from moeprof.recipe.scene import PolicySection, Scene
from moeprof.workload import catalogue as models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.evaluation.runs import PolicyRun
    from moeprof.evaluation.stage import Stage
    from moeprof.recipe.scene import Knob

PLAIN = PolicySection(name="top-k")
EXACT = PolicySection(name="marginal-exact", dispatcher="marginal-cost")
BUNDLED = PolicySection(name="marginal-cost", router="marginal-cost", dispatcher="marginal-cost")
ORACLE = PolicySection(name="oracle", router="oracle", dispatcher="oracle")
METRO = PolicySection(name="metro", dispatcher="metro")


def scene_of(text: str, name: str = "small") -> LoadedScene:
    """The scene of a TOML text, as if it had been read from a file of this name."""
    scene = Scene.model_validate(tomllib.loads(text))
    return LoadedScene(
        path=Path(f"{name}.toml"),
        name=name,
        text=text,
        scene=scene,
        model=models.model(scene.model.layer),
        gpu=gpus.gpu(scene.gpus.specification),
    )


def shipped(name: str, **changes: Any) -> LoadedScene:
    """A scene that ships, with keys replaced; those of a section are given as a dict."""
    return changed(load_scene(find_scene(name)), **changes)


def changed(loaded: LoadedScene, **changes: Any) -> LoadedScene:
    written = loaded.scene.model_dump()
    for key, value in changes.items():
        written[key] = {**written[key], **value} if isinstance(value, dict) else value
    return replace(loaded, scene=Scene.model_validate(written))


def stage_of(loaded: LoadedScene) -> Stage:
    """The scene ready for policies, plain top-k already run on it."""
    stage = set_stage(loaded, shipped_cost(loaded.scene.gpus.specification))
    simulate(stage, seat(stage, PLAIN, {}))
    return stage


def run(
    stage: Stage, policy: PolicySection = PLAIN, setting: Mapping[str, Knob] | None = None
) -> PolicyRun:
    return simulate(stage, seat(stage, policy, setting or {}))
