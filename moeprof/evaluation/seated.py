"""A policy seated in a scene: a router and a dispatcher for every seed, and what they learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from moeprof.errors import RecipeError, WorkloadError
from moeprof.evaluation.policies import BUNDLED, ORACLE
from moeprof.router.adaptation.adaptation import Adaptation, AdaptationSettings
from moeprof.router.adaptation.dual_ascent import DualAscentSettings
from moeprof.router.dispatch.marginal import MarginalDispatch
from moeprof.router.dispatch.random_replica import RandomReplica
from moeprof.router.dispatch.registry import load_dispatcher
from moeprof.router.marginal.router import MarginalCost
from moeprof.router.registry import load_router

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.evaluation.runs import Claim
    from moeprof.evaluation.stage import Stage
    from moeprof.recipe.scene import Knob, PolicySection
    from moeprof.router.dispatch.protocol import Dispatcher
    from moeprof.router.protocol import Router
    from moeprof.workload.placement import Placement

BUDGET_KNOB: Final = "gate_mass_fraction"
"""A setting of the bundled router: hold this budget by test-time adaptation, whatever lambda."""
_OURS: Final = (BUNDLED, ORACLE)
_STATIC: Final = ("first",)  # dispatchers that look at nothing
_READS_NOTHING: Final = frozenset(
    {
        *("top-k", "random", "oea", "lynx", "xshare", "laser", "capacity-drop"),
        *("capacity-expanded", "sere", "logit-penalty", *_OURS),
    }
)
"""Routers that do not read a context's telemetry; the bundled one has it through adaptation."""


@dataclass(frozen=True, slots=True, eq=False)
class Seated:
    """One setting of one policy, ready to run; routers and dispatchers are one for each seed."""

    name: str
    setting: Mapping[str, Knob]
    claim: Claim
    routers: tuple[Router, ...]
    dispatchers: tuple[Dispatcher, ...]
    placements: tuple[Placement, ...]
    adaptation: Adaptation | None
    knows_truth: bool
    reads_telemetry: bool
    layer_seconds: float
    """Charged to every MoE layer for deciding, and for telemetry where it is used."""

    @property
    def is_exact(self) -> bool:
        """Whether experts are those of top-k."""
        return self.claim == "exact"


def seat(stage: Stage, policy: PolicySection, setting: Mapping[str, Knob]) -> Seated:
    """Return one setting of a policy, ready to run in a scene.

    Raises RecipeError: no such router, dispatcher or knob, or a knob out of range.
    """
    scene, num_seeds = stage.scene, stage.traffic.num_seeds
    adaptation = None
    if policy.router in _OURS or policy.dispatcher in _OURS:
        adaptation = _adaptation(stage, setting)
    knobs = {key: value for key, value in setting.items() if key != BUDGET_KNOB}
    try:
        routers = tuple(
            _router(stage, policy, knobs, adaptation, seed) for seed in range(num_seeds)
        )
        dispatchers = tuple(
            _dispatcher(stage, policy, knobs, adaptation, seed) for seed in range(num_seeds)
        )
        placements = stage.placements(policy)
    except WorkloadError as error:
        raise RecipeError(
            f"{stage.loaded.path}: policy {policy.name!r}: {error.message}", hint=error.hint
        ) from error
    knows_truth = ORACLE in (policy.router, policy.dispatcher)
    decides = policy.router != "top-k" or policy.dispatcher not in _STATIC
    reads = policy.router not in _READS_NOTHING
    told = (adaptation is not None and not knows_truth) or reads
    return Seated(
        name=policy.name,
        setting=dict(setting),
        claim="exact" if policy.router == "top-k" else "re-routed",
        routers=routers,
        dispatchers=dispatchers,
        placements=placements,
        adaptation=adaptation,
        knows_truth=knows_truth,
        reads_telemetry=reads,
        layer_seconds=(scene.router_seconds if decides else 0.0)
        + (stage.telemetry_seconds if told else 0.0),
    )


def _adaptation(stage: Stage, setting: Mapping[str, Knob]) -> Adaptation:
    budget = None
    if BUDGET_KNOB in setting:
        budget = DualAscentSettings(gate_mass_fraction=float(setting[BUDGET_KNOB]))
    return Adaptation(
        AdaptationSettings(budget=budget),
        stage.scene.gpus.num_gpus,
        trade=float(setting.get("lambda_", 0.0)),
        num_seeds=stage.traffic.num_seeds,
    )


def _router(
    stage: Stage,
    policy: PolicySection,
    knobs: Mapping[str, Knob],
    adaptation: Adaptation | None,
    seed: int,
) -> Router:
    given: dict[str, Any] = dict(knobs)
    if policy.router in _OURS:
        assert adaptation is not None
        given |= {"curve": stage.curve, "conditions": adaptation.conditions[seed]}
        return MarginalCost(**_known(BUNDLED, given))
    if policy.router == "top-k":
        given = {}
    if policy.router == "random":
        given["generator"] = _generator(stage, seed)
    return load_router(policy.router, **given)


def _known(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the knobs of the bundled router; the registry refuses those that it has not."""
    load_router(name, **{key: given[key] for key in given if key != "conditions"})
    return dict(given)


def _dispatcher(
    stage: Stage,
    policy: PolicySection,
    knobs: Mapping[str, Knob],
    adaptation: Adaptation | None,
    seed: int,
) -> Dispatcher:
    if policy.dispatcher in _OURS:
        assert adaptation is not None
        energy = float(knobs.get("energy_fraction", 0.0))
        return MarginalDispatch(
            energy_fraction=energy, curve=stage.curve, conditions=adaptation.conditions[seed]
        )
    if policy.dispatcher == "random":
        return RandomReplica(_generator(stage, seed))
    return load_dispatcher(policy.dispatcher)


def _generator(stage: Stage, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(stage.scene.seed * 1_000_003 + seed)
