"""What a comparison of routers is asked for, from the command line's words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from moeprof.cost.model_file import load_model
from moeprof.errors import RecipeError, UsageError
from moeprof.evaluation.judge.stored import read_stored
from moeprof.evaluation.policies import BUNDLED
from moeprof.evaluation.run import settings_of
from moeprof.recipe.gates import EVERY_SCENE, STORED
from moeprof.recipe.load_gates import load_gates
from moeprof.recipe.load_scene import find_scene, load_scene, scene_names
from moeprof.resources import recipes_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.cost.model import CostModel
    from moeprof.evaluation.judge.stored import StoredResult
    from moeprof.recipe.load_gates import LoadedGates
    from moeprof.recipe.load_scene import LoadedScene

LAMBDAS: Final = (0.0, 0.02, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0)
"""What --sweep-lambda runs the bundled router with."""
_SHIPPED_GATES: Final = Path("route-eval") / "gates.toml"  # among the recipes


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """A comparison, with every file that it names read."""

    scenes: tuple[LoadedScene, ...]
    model: Path | None
    cost: CostModel | None
    """None: the fitted model that ships for each scene's GPU, or else its datasheet."""
    only: tuple[str, ...]
    lambdas: tuple[float, ...]
    gates: LoadedGates | None
    stored: StoredResult | None
    num_workers: int
    seed: int
    """For the resampling that gates take; scenes have their own."""


def route_request(  # noqa: PLR0913 - options of a command
    model: Path | None,
    *,
    scenes: Sequence[str] = (),
    num_seeds: int | None = None,
    seed: int | None = None,
    policies: Sequence[str] = (),
    check: Path | None = None,
    against: Path | None = None,
    is_swept: bool = False,
    num_workers: int | None = None,
) -> RouteRequest:
    """Return what is asked for; without a scene's name, all that ship.

    Raises:
        UsageError: options that do not go together.
        RecipeError: a scene or gates file is wrong, or names what is not run.
        ModelFileError: `model` is no cost model.
        InputError: `against`, or the file that the gates name, is no earlier result.

    """
    if against is not None and check is None:
        raise UsageError(
            "--against is an earlier result for gates, and no gates are given",
            hint="Give the gates file with --check.",
        )
    if is_swept and policies and BUNDLED not in policies:
        raise UsageError(
            f"--sweep-lambda is of {BUNDLED}, and --policy leaves it out",
            hint=f"Add --policy {BUNDLED}.",
        )
    if model is not None and model.suffix == ".toml":
        raise UsageError(
            f"{model}: must be a cost model that fit-cost wrote, got a TOML file",
            hint=f"Give a scene as --scene {model}, gates as --check {model}.",
        )
    loaded = tuple(
        load_scene(find_scene(each), seed=seed, num_seeds=num_seeds)
        for each in scenes or scene_names()
    )
    _refuse_same_names(loaded)
    names = {each.name: _policies_run(each, policies) for each in loaded}
    gates = None
    if check is not None:
        gates = load_gates(_find_gates(check), stored=against)
        if against is not None and gates.stored is None:
            raise UsageError(
                f"--against {against}: no gate of {check} is against a stored result",
                hint='Write against = "stored" in a gate, or leave --against out.',
            )
        _refuse_gates_of_others(gates, names)
    return RouteRequest(
        scenes=loaded,
        model=model,
        cost=None if model is None else load_model(model),
        only=tuple(policies),
        lambdas=LAMBDAS if is_swept else (),
        gates=gates,
        stored=None if gates is None or gates.stored is None else read_stored(gates.stored),
        num_workers=_num_cores() if num_workers is None else num_workers,
        seed=seed or 0,
    )


def _policies_run(loaded: LoadedScene, only: Sequence[str]) -> frozenset[str]:
    return frozenset(policy.name for policy, _ in settings_of(loaded, only=only))


def _refuse_same_names(scenes: Sequence[LoadedScene]) -> None:
    paths: dict[str, Path] = {}
    for each in scenes:
        if each.name in paths:
            raise UsageError(
                f"--scene {each.path}: scenes must differ in name, "
                f"and {paths[each.name]} is {each.name!r} too",
                hint="Name each scene once, or rename a file.",
            )
        paths[each.name] = each.path


def _find_gates(path: Path) -> Path:
    """Return the gates file; the shipped one is also found from outside a checkout."""
    shipped = recipes_folder() / _SHIPPED_GATES
    if not path.exists() and path in {
        Path(_SHIPPED_GATES.stem), Path(_SHIPPED_GATES.name), Path("recipes") / _SHIPPED_GATES
    }:  # fmt: skip
        return shipped
    return path


def _refuse_gates_of_others(gates: LoadedGates, names: dict[str, frozenset[str]]) -> None:
    """Refuse, before minutes of work, a gate of a scene or policy that is not run."""
    for gate in gates.gates:
        where = f"{gates.path}: gate {gate.name!r}"
        rivals = () if gate.against in {None, STORED} else (gate.against,)
        needed = (gate.policy, *rivals)
        if gate.scene == EVERY_SCENE:
            if not any(names[scene].issuperset(needed) for scene in names):
                raise RecipeError(
                    f"{where}: no scene that is run has {' and '.join(map(str, needed))}",
                    hint="Name what is run, or leave --scene and --policy out.",
                )
            continue
        if gate.scene not in names:
            raise RecipeError(
                f"{where}: scene {gate.scene!r} is not run, only {', '.join(names)}",
                hint=f"Add --scene {gate.scene}, or leave --scene out to run all that ship.",
            )
        missing = [each for each in needed if each not in names[gate.scene]]
        if missing:
            raise RecipeError(
                f"{where}: policy {missing[0]!r} is not run in {gate.scene}, "
                f"only {', '.join(sorted(names[gate.scene]))}",
                hint="Name a policy of the scene, or leave --policy out.",
            )


def _num_cores() -> int:
    # What this process may use, where the system tells.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
