"""Scenes run with all their policies, over processes, with the same outcome however spread."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

import torch

from moeprof.errors import RecipeError
from moeprof.evaluation.policies import BUNDLED, default_policies
from moeprof.evaluation.runs import SceneRuns
from moeprof.evaluation.seated import seat
from moeprof.evaluation.sere_similarity import ROUTER as SERE
from moeprof.evaluation.sere_similarity import without_outputs
from moeprof.evaluation.simulate import simulate
from moeprof.evaluation.stage import set_stage, shipped_cost
from moeprof.processes import in_processes
from moeprof.recipe.scene import PolicySection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from moeprof.cost.model import CostModel
    from moeprof.evaluation.runs import PolicyRun
    from moeprof.evaluation.stage import Stage
    from moeprof.recipe.load_scene import LoadedScene
    from moeprof.recipe.scene import Knob

PLAIN: Final = PolicySection(name="top-k")


@dataclass(frozen=True, slots=True)
class _Part:
    """Some settings of one scene; `places` say where their runs stand among the scene's."""

    loaded: LoadedScene
    cost: CostModel | None
    settings: tuple[tuple[PolicySection, Mapping[str, Knob]], ...]
    places: tuple[int, ...]


def evaluate(
    scenes: Sequence[LoadedScene],
    cost: CostModel | None,
    *,
    num_workers: int,
    only: Sequence[str] = (),
    lambdas: Sequence[float] = (),
    on_progress: Callable[[str, int, int], None],
) -> dict[str, SceneRuns]:
    """Return the runs of every scene by its name, in the order given.

    `cost` None: the fitted model that ships for each scene's GPU, or else its datasheet. `only`
    names policies, the baseline comes along. `lambdas` are further settings of the bundled router.
    With one worker everything runs in this process.

    Raises:
        RecipeError: no such policy, router or knob; or what making a scene ready raises.

    """
    chosen = {each.name: settings_of(each, only=only, lambdas=lambdas) for each in scenes}
    parts = [
        part
        for each in scenes
        for part in _parts(each, cost, chosen[each.name], 1 if num_workers == 1 else 2)
    ]
    # Long ones first, so that no worker has one left when the others are done.
    parts.sort(key=lambda part: -_weight(part))
    num_settings = sum(len(part.settings) for part in parts)
    num_done = 0
    found: dict[str, dict[int, PolicyRun]] = {each.name: {} for each in scenes}
    about: dict[str, SceneRuns] = {}
    for part, runs in (
        _here(parts) if num_workers == 1 else in_processes(run_part, parts, num_workers)
    ):
        name = part.loaded.name
        about[name] = runs
        found[name].update(zip(part.places, runs.runs, strict=True))
        num_done += len(part.settings)
        on_progress(name, num_done, num_settings)
    return {each.name: _whole(about[each.name], found[each.name]) for each in scenes}


def policies_of(loaded: LoadedScene) -> tuple[PolicySection, ...]:
    """Return the policies that run in a scene: its own, or those that every scene has.

    Where the baseline is none of its own it is plain top-k, which then comes first. Policies for
    which the scene's traffic has not what they need are left out, and `notes_of` says so.
    """
    known = _known(loaded)
    if without_outputs(loaded.scene) is None:
        return known
    return tuple(policy for policy in known if policy.router != SERE)


def _known(loaded: LoadedScene) -> tuple[PolicySection, ...]:
    layer, scene = loaded.model.layer, loaded.scene
    found = scene.policies or default_policies(layer.num_experts, layer.top_k)
    named = any(policy.name == scene.baseline for policy in found)
    # A scene that was read may name no other baseline that it has not.
    return found if named else (PLAIN, *found)


def notes_of(loaded: LoadedScene) -> tuple[str, ...]:
    """Return what readers of a scene's runs must know, one sentence each."""
    left_out = [policy.name for policy in _known(loaded) if policy.router == SERE]
    reason = without_outputs(loaded.scene)
    if reason is None or not left_out:
        return ()
    return (f"{', '.join(left_out)} did not run: {reason}.",)


def settings_of(
    loaded: LoadedScene, *, only: Sequence[str] = (), lambdas: Sequence[float] = ()
) -> tuple[tuple[PolicySection, Mapping[str, Knob]], ...]:
    """Return every setting that is run in a scene, the baseline's first.

    Raises RecipeError: `only` or the baseline names a policy that the scene has not, or the
    baseline cannot run.
    """
    names = [policy.name for policy in _known(loaded)]
    for name in only:
        if name not in names:
            raise RecipeError(
                f"{loaded.path}: has no policy {name!r}", hint=f"It has {', '.join(names)}."
            )
    baseline = loaded.scene.baseline
    if baseline not in names:
        known = list(dict.fromkeys(names))
        near = get_close_matches(baseline, known, n=1)
        raise RecipeError(
            f"{loaded.path}: baseline must be one of {', '.join(known)}, got {baseline!r}",
            hint=f"Did you mean {near[0]}?" if near else None,
        )
    able = policies_of(loaded)
    wanted = [policy for policy in able if not only or policy.name in {*only, baseline}]
    wanted.sort(key=lambda policy: policy.name != baseline)
    if not wanted or wanted[0].name != baseline:
        raise RecipeError(f"{loaded.path}: baseline {baseline!r}: {without_outputs(loaded.scene)}")
    found: list[tuple[PolicySection, Mapping[str, Knob]]] = []
    for policy in wanted:
        settings: list[Mapping[str, Knob]] = list(policy.settings)
        if policy.name == BUNDLED:
            settings += [{"lambda_": each} for each in lambdas]
        distinct = [each for place, each in enumerate(settings) if each not in settings[:place]]
        found += [(policy, each) for each in distinct]
    return tuple(found)


def _parts(
    loaded: LoadedScene,
    cost: CostModel | None,
    settings: Sequence[tuple[PolicySection, Mapping[str, Knob]]],
    num_parts: int,
) -> Iterator[_Part]:
    for first in range(min(num_parts, len(settings))):
        places = range(first, len(settings), num_parts)
        yield _Part(loaded, cost, tuple(settings[place] for place in places), tuple(places))


def _weight(part: _Part) -> float:
    traffic = part.loaded.scene.traffic
    each = 4.0 if traffic.kind == "live" else 1.0
    return each * len(part.settings) * (traffic.num_steps + traffic.num_settling_steps)


def run_part(part: _Part) -> SceneRuns:
    """Return the runs of some settings of one scene."""
    cost = part.cost or shipped_cost(part.loaded.scene.gpus.specification)
    stage = set_stage(part.loaded, cost)
    # What all others are compared with, and what exact ones replay.
    simulate(stage, seat(stage, PLAIN, {}))
    runs = tuple(simulate(stage, seat(stage, policy, each)) for policy, each in part.settings)
    return _about(stage, runs)


def _about(stage: Stage, runs: tuple[PolicyRun, ...]) -> SceneRuns:
    scene, traffic = stage.scene, stage.traffic
    return SceneRuns(
        scene=stage.loaded.name,
        question=scene.question,
        baseline=scene.baseline,
        has_constant_compute=scene.has_constant_compute,
        traffic=traffic.kind,
        hardware=stage.cluster.hardware,
        emulated=stage.cluster.emulated,
        num_layers=traffic.num_layers,
        batch_size=traffic.batch_size,
        budget_cross_entropy_nats=scene.budget.cross_entropy_nats,
        budget_gate_mass_fraction=scene.budget.gate_mass_fraction,
        requests=traffic.requests()[:, scene.traffic.num_settling_steps :],
        runs=runs,
        notes=(*notes_of(stage.loaded), *_of_memory(stage)),
    )


def _of_memory(stage: Stage) -> tuple[str, ...]:
    """Return what is to be said where memory holds fewer replicas than the scene asks for."""
    free, scene = stage.cluster.free_slots(), stage.scene
    if free is None:
        return ()
    own = (policy.num_replicas or 0 for policy in policies_of(stage.loaded))
    asked, most = max(scene.placement.num_replicas, *own), free * scene.gpus.num_gpus
    if asked <= most:
        return ()
    return (f"gpus.free_bytes has room for {most} of {asked} replicas, so there are no more.",)


def _whole(about: SceneRuns, runs: Mapping[int, PolicyRun]) -> SceneRuns:
    ordered = tuple(runs[place] for place in sorted(runs))
    return replace(about, runs=ordered)


def _here(parts: Sequence[_Part]) -> Iterator[tuple[_Part, SceneRuns]]:
    # As workers have it: sums of a live model would otherwise depend on the machine's cores.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for part in parts:
            yield part, run_part(part)
    finally:
        torch.set_num_threads(num_threads)
