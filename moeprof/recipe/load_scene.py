"""Reading a scene's file, with every fault named by file, key and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from moeprof.errors import MoeprofError, RecipeError
from moeprof.hardware import catalogue as gpus
from moeprof.recipe.faults import describe
from moeprof.recipe.load import find_recipe, read_toml, recipe_names, refuse_other_kind
from moeprof.recipe.scene import Scene
from moeprof.recipe.scene_faults import scene_fault
from moeprof.workload import catalogue as models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeVar

    from moeprof.hardware.gpu import GPU
    from moeprof.workload.model import MoEModel

    _Named = TypeVar("_Named")

_FOLDER = "route-eval"
_SHIPPED_SOURCE = "mini-moe"


@dataclass(frozen=True, slots=True)
class LoadedScene:
    """A scene, the text it was read from, and the model and GPU that its names stand for.

    `name` is the file's, without its ending. A path in `scene.traffic.source` is taken from the
    scene's own folder.
    """

    path: Path
    name: str
    text: str
    scene: Scene
    model: MoEModel
    gpu: GPU


def scene_names() -> tuple[str, ...]:
    """Return the names of the scenes that ship with moeprof, sorted.

    The demo's is not among them: it takes a cost model of the machine that it runs on.
    """
    names = recipe_names("scene")
    return tuple(name for name in names if find_scene(name).parent.name == _FOLDER)


def find_scene(name_or_path: str) -> Path:
    """Return the scene's file for a path, or for the name of a scene that ships with moeprof.

    Raises RecipeError, with the nearest names, where there is neither.
    """
    return find_recipe(name_or_path, "scene")


def load_scene(path: Path, *, seed: int | None = None, num_seeds: int | None = None) -> LoadedScene:
    """Read and check a scene; `seed` and `num_seeds` replace the scene's own.

    Names of routers, dispatchers and knobs, and what a trace or a live model has, are not looked
    at here. Raises RecipeError naming the file, the key, what was found and what would be right.
    """
    text, written = read_toml(path)
    refuse_other_kind(written, "scene", path)
    given = {"seed": seed, "num_seeds": num_seeds}
    written |= {key: value for key, value in given.items() if value is not None}
    try:
        scene = Scene.model_validate(written)
    except ValidationError as error:
        raise RecipeError(f"{path}: {describe(error, Scene)}") from error
    model = _named(models.model, "model.layer", scene.model.layer, path)
    gpu = _named(gpus.gpu, "gpus.specification", scene.gpus.specification, path)
    if fault := scene_fault(scene, model, gpu):
        raise RecipeError(f"{path}: {fault.message}", hint=fault.hint)
    return LoadedScene(
        path=path, name=path.stem, text=text, scene=_located(scene, path), model=model, gpu=gpu
    )


def _named(catalogue: Callable[[str], _Named], key: str, name: str, path: Path) -> _Named:
    """Return what a name stands for in a catalogue, or in a file beside the scene."""
    try:
        return catalogue(str(path.parent / name) if name.endswith(".toml") else name)
    except MoeprofError as error:
        raise RecipeError(f"{path}: {key}: {error.message}", hint=error.hint) from error


def _located(scene: Scene, path: Path) -> Scene:
    """Return the scene with the path of its traffic's source taken from the scene's own folder."""
    source = scene.traffic.source
    if source == _SHIPPED_SOURCE:
        return scene
    traffic = scene.traffic.model_copy(update={"source": str(path.parent / source)})
    return scene.model_copy(update={"traffic": traffic})
