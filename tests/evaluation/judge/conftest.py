from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moeprof.evaluation.runs import PolicyRun, SceneRuns

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def make_run(policy: str, seconds: NDArray[np.float64], **given: Any) -> PolicyRun:
    """A run of the latencies given, [num_seeds, num_steps]; 1000 W unless said."""
    num_seeds = len(seconds)

    def steps(key: str, otherwise: float) -> NDArray[np.float64]:
        return np.broadcast_to(given.get(key, otherwise), seconds.shape).astype(float)

    return PolicyRun(
        policy=policy,
        setting=given.get("setting", {}),
        claim=given.get("claim", "re-routed"),
        step_seconds=seconds,
        step_joules=given.get("joules", seconds * 1000),
        active_experts=steps("active", 20.0),
        gate_mass_fraction=steps("mass", 1.0),
        changed_fraction=steps("changed", 0.0),
        num_dropped_rows=steps("dropped", 0.0),
        loss_difference_nats=given.get("losses"),
        peak_celsius=np.full(num_seeds, given.get("peak", 70.0)),
        throttled_seconds=np.full(num_seeds, given.get("throttled", 0.0)),
        rows_fraction=np.full((num_seeds, 2), 0.5),
        die_celsius=np.full((num_seeds, 2), 60.0),
        router_seconds=given.get("router_seconds", 1e-5),
    )


def make_scene(*runs: PolicyRun, batch_size: int = 4, **given: Any) -> SceneRuns:
    num_seeds, num_steps = runs[0].step_seconds.shape
    of_seed = np.arange(num_seeds)[:, None, None] * batch_size + np.arange(batch_size)
    return SceneRuns(
        scene=given.get("scene", "a-scene"),
        question="Who wins?",
        baseline=given.get("baseline", "top-k"),
        has_constant_compute=given.get("constant", False),
        traffic=given.get("traffic", "recorded"),
        hardware="emulated",
        emulated=("Leakage is the catalogue's.",),
        num_layers=2,
        batch_size=batch_size,
        budget_cross_entropy_nats=0.01,
        budget_gate_mass_fraction=0.95,
        requests=np.broadcast_to(of_seed, (num_seeds, num_steps, batch_size)),
        runs=runs,
    )


def correlated(
    random: np.random.Generator,
    shape: tuple[int, ...],
    *,
    correlation: float = 0.8,
    seed_deviation: float = 0.5,
) -> NDArray[np.float64]:
    """Steps, the last axis, that follow an AR(1) process about a level of each seed's own."""
    steps = random.normal(size=shape)
    for step in range(1, shape[-1]):
        kept = correlation * steps[..., step - 1]
        steps[..., step] = kept + np.sqrt(1 - correlation**2) * steps[..., step]
    return np.exp(0.1 * (steps + seed_deviation * random.normal(size=(*shape[:-1], 1))))


@pytest.fixture
def run() -> Callable[..., PolicyRun]:
    return make_run


@pytest.fixture
def scene() -> Callable[..., SceneRuns]:
    return make_scene


@pytest.fixture
def ar1() -> Callable[..., NDArray[np.float64]]:
    return correlated
