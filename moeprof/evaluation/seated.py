"""A policy seated in a scene: a router and a dispatcher for every seed, and what they learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch

from moeprof.errors import RecipeError, WorkloadError
from moeprof.evaluation.policies import BUNDLED, ORACLE
from moeprof.evaluation.sere_similarity import ROUTER as SERE
from moeprof.evaluation.sere_similarity import without_outputs
from moeprof.router.adaptation.adaptation import Adaptation, AdaptationSettings
from moeprof.router.adaptation.dual_ascent import DualAscentSettings
from moeprof.router.adaptation.gpu_factors import GpuFactorsSettings
from moeprof.router.dispatch.marginal import MarginalDispatch
from moeprof.router.dispatch.random_replica import RandomReplica
from moeprof.router.dispatch.registry import load_dispatcher
from moeprof.router.marginal.router import MarginalCost
from moeprof.router.policies.knobs import check_knob
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
ENERGY_KNOB: Final = "energy_fraction"
"""A setting of the bundled router and dispatcher, and of the dispatcher alone."""
_OURS: Final = (BUNDLED, ORACLE)
# What looks at one token at a time; `router_seconds` are of looking at the batch.
_ALONE_ROUTERS: Final = ("top-k", "random", "logit-penalty")
_ALONE_DISPATCHERS: Final = ("first", "random")
# Fields of routers that are no numbers: they are made of the scene.
_NO_KNOBS: Final = frozenset({"conditions", "costs", "curve", "generator", "similarities"})
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

    Raises:
        RecipeError: no such router, dispatcher or knob, a knob out of range, or similar experts
            asked of traffic that has no experts' outputs.
        CheckpointError: the model that runs has experts whose outputs cannot be had.

    """
    scene, num_seeds = stage.scene, stage.traffic.num_seeds
    adaptation = None
    try:
        knobs = _router_knobs(policy, setting)
        if policy.router in _OURS or policy.dispatcher in _OURS:
            adaptation = _adaptation(stage, setting)
        routers = tuple(
            _router(stage, policy, knobs, adaptation, seed) for seed in range(num_seeds)
        )
        dispatchers = tuple(
            _dispatcher(stage, policy, setting, adaptation, seed) for seed in range(num_seeds)
        )
        placements = stage.placements(policy)
    except WorkloadError as error:
        raise RecipeError(
            f"{stage.loaded.path}: policy {policy.name!r}: {error.message}", hint=error.hint
        ) from error
    knows_truth = ORACLE in (policy.router, policy.dispatcher)
    # Without replicas there is nothing to choose: a table made once says where an expert is.
    chooses = policy.dispatcher not in _ALONE_DISPATCHERS and any(map(_has_replicas, placements))
    decides = policy.router not in _ALONE_ROUTERS or chooses
    reads = policy.router not in _READS_NOTHING
    told = (adaptation is not None and not knows_truth and decides) or reads
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


def _router_knobs(policy: PolicySection, setting: Mapping[str, Knob]) -> dict[str, Any]:
    """Return the knobs that are the router's, those of top-k's dispatcher and budgets checked.

    Raises WorkloadError: the policy has no such knob, or the budget is out of range.
    """
    knobs: dict[str, Any] = dict(setting)
    for knob in sorted(_NO_KNOBS & knobs.keys() if policy.router in _READS_NOTHING else ()):
        raise WorkloadError(f"router {policy.router}: {knob} is not for a scene to set")
    if policy.router in _OURS:
        budget: Any = knobs.pop(BUDGET_KNOB, 0.0)
        check_knob(BUNDLED, BUDGET_KNOB, budget, least=0.0, most=1.0)
    if policy.router != "top-k":
        return knobs
    known = (ENERGY_KNOB,) if policy.dispatcher in _OURS else ()
    for knob in knobs:
        if knob not in known:
            raise WorkloadError(
                f"router top-k with dispatcher {policy.dispatcher}: has no knob {knob}",
                hint=f"Its knobs are {', '.join(known)}." if known else "It has no knobs.",
            )
    return {}


def _adaptation(stage: Stage, setting: Mapping[str, Knob]) -> Adaptation:
    given: dict[str, Any] = dict(setting)
    budget = None
    if BUDGET_KNOB in given:
        budget = DualAscentSettings(gate_mass_fraction=given[BUDGET_KNOB])
    check_knob(BUNDLED, "lambda_", given.get("lambda_", 0.0), least=0.0)
    scene, factors = stage.scene, GpuFactorsSettings()
    # A simulated step stands for many: layers that telemetry is old by make it no later.
    steps_old = scene.telemetry.age_layers / stage.traffic.num_layers
    late_seconds = factors.late_seconds + steps_old * scene.gpus.seconds_per_simulated_step
    return Adaptation(
        AdaptationSettings(budget=budget, factors=replace(factors, late_seconds=late_seconds)),
        scene.gpus.num_gpus,
        trade=given.get("lambda_", 0.0),
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
        # Where lambda stays 0 the router is top-k itself, in how it breaks ties as well.
        conditions = adaptation.conditions[seed]
        trades = float(conditions.trade) > 0
        given |= {"curve": stage.curve, "conditions": conditions if trades else None}
        return MarginalCost(**_known(BUNDLED, given))
    if policy.router == "random":
        given["generator"] = _generator(stage, seed)
    if policy.router == SERE:
        if (reason := without_outputs(stage.scene)) is not None:
            raise WorkloadError(reason, hint="Choose live traffic, or leave the policy out.")
        given["similarities"] = stage.similarities()
    return load_router(policy.router, **given)


def _known(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the knobs of the bundled router; the registry refuses those that it has not."""
    load_router(name, **{key: given[key] for key in given if key != "conditions"})
    return dict(given)


def _dispatcher(
    stage: Stage,
    policy: PolicySection,
    setting: Mapping[str, Any],
    adaptation: Adaptation | None,
    seed: int,
) -> Dispatcher:
    if policy.dispatcher in _OURS:
        assert adaptation is not None
        return MarginalDispatch(
            energy_fraction=setting.get(ENERGY_KNOB, 0.0),
            curve=stage.curve,
            conditions=adaptation.conditions[seed],
        )
    if policy.dispatcher == "random":
        return RandomReplica(_generator(stage, seed))
    return load_dispatcher(policy.dispatcher)


def _has_replicas(placement: Placement) -> bool:
    slots = [expert for rank in placement.ranks for expert in rank]
    return len(set(slots)) < len(slots)


def _generator(stage: Stage, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(stage.scene.seed * 1_000_003 + seed)
