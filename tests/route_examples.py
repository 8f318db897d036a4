"""A scene of six policies whose figures are worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from moeprof.evaluation.run import settings_of
from moeprof.evaluation.runs import PolicyRun, SceneRuns
from moeprof.recipe.load_scene import load_scene

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from moeprof.recipe.load_scene import LoadedScene

SCENE = """
question = "Who | wins?"

[model]
layer = "gpt-oss-20b"

[traffic]
kind = "recorded"
batch_size = 4
num_settling_steps = 0
num_steps = 2

[gpus]
specification = "h200-sxm"
num_gpus = 2
speed = [1.0, 0.8]

[[policies]]
name = "top-k"
[[policies]]
name = "slow-exact"
dispatcher = "metro"
[[policies]]
name = "oea"
router = "oea"
settings = [{ base_k = 2 }]
[[policies]]
name = "marginal-cost"
router = "marginal-cost"
dispatcher = "marginal-cost"
settings = [{ lambda_ = 0.5 }, { lambda_ = 2.0 }]
[[policies]]
name = "oracle"
router = "oracle"
dispatcher = "oracle"
settings = [{ lambda_ = 0.5 }]
"""
TOP_K = np.array([[90e-6] * 2, [110e-6] * 2, [90e-6] * 2, [110e-6] * 2])
"""[4 seeds, 2 steps]: mean 100 µs; Student's half-width 3.1824 x 11.547 / 2 = 18.4 µs."""
# Latency over top-k's, gate mass, experts in use.
FIGURES: Mapping[str, tuple[float, float, float]] = {
    "top-k": (1.0, 1.0, 24.0),
    "slow-exact": (1.25, 1.0, 24.0),
    "oea": (0.9, 0.96, 20.0),
    "marginal-cost": (0.8, 0.97, 16.0),
    "oracle": (0.75, 0.97, 16.0),
}


LOSSES = {"top-k": 0.0, "slow-exact": 0.0, "oea": 0.041, "marginal-cost": 0.03, "oracle": 0.03}


def write_example(folder: Path, text: str = SCENE, name: str = "a-scene") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def load_example(
    folder: Path, text: str = SCENE, name: str = "a-scene", *, num_seeds: int = len(TOP_K)
) -> LoadedScene:
    return load_scene(write_example(folder, text, name), num_seeds=num_seeds)


def run_of(policy: str, setting: Mapping[str, Any], *, is_live: bool = False) -> PolicyRun:
    ratio, mass, active = FIGURES[policy]
    if setting.get("lambda_", 0.5) != 0.5:
        ratio, mass, active = 0.6, 0.9, 12.0
    seconds = ratio * TOP_K
    is_exact = mass == 1
    curves = {}
    if "lambda_" in setting and policy != "oracle":
        curves = {
            "lambda": np.full(seconds.shape, setting["lambda_"]),
            "slowness": np.broadcast_to([1.0, 1.2], (*seconds.shape, 2)),
        }
    losses = np.full((*seconds.shape, 4), LOSSES[policy])
    return PolicyRun(
        policy=policy,
        setting=setting,
        claim="exact" if is_exact else "re-routed",
        step_seconds=seconds,
        step_joules=1000 * seconds,
        active_experts=np.full(seconds.shape, active),
        gate_mass_fraction=np.full(seconds.shape, mass),
        changed_fraction=np.full(seconds.shape, 0.0 if is_exact else 0.2),
        num_dropped_rows=np.zeros(seconds.shape),
        loss_difference_nats=losses if is_live else None,
        peak_celsius=np.full(len(seconds), 60.0),
        throttled_seconds=np.full(len(seconds), 2e-5 if policy == "oea" else 0.0),
        rows_fraction=np.full((len(seconds), 2), 0.5),
        die_celsius=np.full((len(seconds), 2), 55.0),
        router_seconds=0.0 if policy == "top-k" else 1e-5,
        curves=curves,
    )


def example_runs(
    loaded: LoadedScene, *, only: Sequence[str] = (), lambdas: Sequence[float] = ()
) -> SceneRuns:
    """What `evaluate` would return for the scene."""
    traffic = loaded.scene.traffic
    is_live = traffic.kind == "live"
    settings = settings_of(loaded, only=only, lambdas=lambdas)
    places = np.arange(len(TOP_K) * 4).reshape(len(TOP_K), 1, 4)
    found = SceneRuns(
        scene=loaded.name,
        question=loaded.scene.question,
        baseline=loaded.scene.baseline,
        has_constant_compute=False,
        traffic=traffic.kind,
        hardware="emulated",
        emulated=("Leakage is the catalogue's.", "Speeds of GPUs are the scene's own."),
        num_layers=2,
        batch_size=4,
        budget_cross_entropy_nats=0.04,
        budget_gate_mass_fraction=loaded.scene.budget.gate_mass_fraction,
        requests=np.broadcast_to(places, (len(TOP_K), 2, 4)),
        runs=tuple(run_of(policy.name, dict(each), is_live=is_live) for policy, each in settings),
    )
    num_seeds = min(len(TOP_K), loaded.scene.num_seeds)
    return found if num_seeds == len(TOP_K) else first_seeds(found, num_seeds)


def first_seeds(runs: SceneRuns, num_seeds: int) -> SceneRuns:
    def cut(run: PolicyRun) -> PolicyRun:
        arrays = {
            name: getattr(run, name)[:num_seeds]
            for name in run.__dataclass_fields__
            if isinstance(getattr(run, name), np.ndarray)
        }
        return replace(run, **arrays)

    return replace(
        runs, requests=runs.requests[:num_seeds], runs=tuple(cut(run) for run in runs.runs)
    )
