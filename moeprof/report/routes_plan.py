"""What `moeprof route-eval --dry-run` shows: scenes, GPUs, traffic, policies and settings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from moeprof.errors import ExitCode
from moeprof.evaluation.run import settings_of
from moeprof.report.consoles import console_on, print_json
from moeprof.report.routes_lines import scene_words
from moeprof.report.routes_words import label

if TYPE_CHECKING:
    from moeprof.recipe.load_scene import LoadedScene
    from moeprof.report.routes_request import RouteRequest


def show_route_plan(request: RouteRequest, *, as_json: bool) -> ExitCode:
    """Print what would be run, and run nothing."""
    planned = {each.name: _settings(request, each) for each in request.scenes}
    if as_json:
        print_json(
            {
                "scenes": {
                    each.name: _document(each, planned[each.name]) for each in request.scenes
                },
                "num_settings": sum(map(len, planned.values())),
                "num_gates": len(request.gates.gates) if request.gates else 0,
            }
        )
        return ExitCode.DONE
    console = console_on(sys.stdout)
    for each in request.scenes:
        console.print(f"{each.name}: {each.scene.question}", soft_wrap=True)
        console.print(f"  {scene_words(each)}", soft_wrap=True)
        names = ", ".join(label(name, setting) for name, setting in planned[each.name])
        console.print(f"  {len(planned[each.name])} settings: {names}", soft_wrap=True)
    num_settings = sum(map(len, planned.values()))
    counts = {"scene": len(planned), "setting": num_settings, "worker": request.num_workers}
    words = (f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
    console.print(", ".join(words))
    return ExitCode.DONE


def _settings(request: RouteRequest, loaded: LoadedScene) -> list[tuple[str, dict[str, Any]]]:
    settings = settings_of(loaded, only=request.only, lambdas=request.lambdas)
    return [(policy.name, dict(setting)) for policy, setting in settings]


def _document(loaded: LoadedScene, settings: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    scene = loaded.scene
    return {
        "question": scene.question,
        "model": scene.model.layer,
        "specification": scene.gpus.specification,
        "num_gpus": scene.gpus.num_gpus,
        "traffic": scene.traffic.kind,
        "batch_size": scene.traffic.batch_size,
        "num_steps": scene.traffic.num_steps,
        "num_seeds": scene.num_seeds,
        "seed": scene.seed,
        "settings": [{"policy": name, "setting": setting} for name, setting in settings],
    }
