"""Reading a recipe file into a `Recipe`, with every fault named by file, key and remedy."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from moeprof.errors import MoeprofError, RecipeError, WorkloadError
from moeprof.recipe.faults import describe
from moeprof.recipe.schema import Recipe
from moeprof.resources import recipes_folder
from moeprof.workload import catalogue
from moeprof.workload.placement import place
from moeprof.workload.routing import Replay, check, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.recipe.schema import PlacementSection
    from moeprof.workload.layer import MoELayer
    from moeprof.workload.routing import Pattern

Kind = Literal["sweep", "training", "scene"]
# The command that a recipe is for, with the option that takes it, where it takes one.
_USAGES: dict[Kind, str] = {
    "sweep": "sweep",
    "training": "train",
    "scene": "route-eval --scene",
}
_FOLDERS = (Path(), Path("route-eval"))  # of recipes, below the one that ships
_SCENE_KEYS = frozenset({"question", "gpus", "traffic", "links", "telemetry", "policies"})


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe, the text it was read from, and the layers and patterns that its names stand for."""

    path: Path
    text: str
    recipe: Recipe
    layers: tuple[MoELayer, ...]
    patterns: tuple[Pattern, ...]


def recipe_names(kind: Kind = "sweep") -> tuple[str, ...]:
    """Return the names of the recipes of one kind that ship with moeprof, sorted."""
    return tuple(sorted(name for name, path in _shipped().items() if _kind_at(path) == kind))


def find_recipe(name_or_path: str, kind: Kind = "sweep") -> Path:
    """Return the recipe file for a path, or for the name of a recipe that ships with moeprof.

    Raises RecipeError, with the nearest names of that kind, where there is neither.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = _shipped().get(path.stem)
    # `recipes/quickstart.toml` is also found from outside a checkout; a shipped recipe of another
    # kind is found too, so that its reader can name the command that it is for.
    if shipped and path.parent in {Path(), *(Path("recipes") / folder for folder in _FOLDERS)}:
        return shipped
    if path.is_dir():
        raise RecipeError(f"{name_or_path}: is a folder, and must be a recipe file")
    names = recipe_names(kind)
    near = get_close_matches(path.stem, names, n=2, cutoff=0.5) or names
    noun = "scene" if kind == "scene" else "recipe"
    raise RecipeError(
        f"{name_or_path}: there is no such {noun} file",
        hint=f"Give a path, or a {noun} that ships with moeprof: {', '.join(near)}.",
    )


def _shipped() -> dict[str, Path]:
    """Return the files of all recipes that ship with moeprof, by name."""
    return {
        path.stem: path
        for folder in _FOLDERS
        for path in sorted((recipes_folder() / folder).glob("*.toml"))
        if _kind_at(path) is not None
    }


def _kind_at(path: Path) -> Kind | None:
    return _kind_of(read_toml(path)[1])


def load_recipe(path: Path, *, seed: int | None = None) -> LoadedRecipe:
    """Read and check a recipe; `seed` replaces the recipe's own.

    Raises RecipeError naming the file, the key, what was found and what would be right.
    """
    text, written = read_toml(path)
    refuse_other_kind(written, "sweep", path)
    if seed is not None:
        written["seed"] = seed
    try:
        recipe = Recipe.model_validate(written)
    except ValidationError as error:
        raise RecipeError(f"{path}: {describe(error)}") from error
    try:
        layers = _layers(recipe)
    except MoeprofError as error:
        raise RecipeError(f"{path}: workload.models: {error.message}", hint=error.hint) from error
    patterns = tuple(_located(parse(each), path) for each in recipe.workload.patterns)
    for pattern in patterns:
        _refuse_impossible(pattern, layers, recipe, path)
    for section in recipe.workload.placements:
        _refuse_misplaced(section, layers, path)
    return LoadedRecipe(path=path, text=text, recipe=recipe, layers=layers, patterns=patterns)


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Return a recipe file's text and the document in it.

    Raises RecipeError naming the file and what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        return text, tomllib.loads(text)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: is not UTF-8 text: {error.reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: is not valid TOML: {error}") from error


def refuse_other_kind(written: Mapping[str, Any], kind: Kind, path: Path) -> None:
    """Raise RecipeError if a document is plainly a recipe for another command."""
    found = _kind_of(written)
    if found is None or found == kind:
        return
    command, wanted = (_USAGES[each].split()[0] for each in (found, kind))
    raise RecipeError(
        f"{path}: is a recipe for {command}, and must be one for {wanted}",
        hint=f"moeprof {_USAGES[found]} {path} --out DIR",
    )


def _kind_of(written: Mapping[str, Any]) -> Kind | None:
    """Return what a recipe is for, None where no section tells."""
    if "workload" in written:
        return "sweep"
    model = written.get("model")
    # A scene prices a layer of its model; a training recipe makes the model.
    if _SCENE_KEYS & written.keys() or (isinstance(model, dict) and "layer" in model):
        return "scene"
    return "training" if {"model", "upcycle"} & written.keys() else None


def _layers(recipe: Recipe) -> tuple[MoELayer, ...]:
    named = [catalogue.model(name).layer for name in recipe.workload.models]
    explicit = [section.layer() for section in recipe.workload.layers]
    return (*named, *explicit)


def _located(pattern: Pattern, recipe_path: Path) -> Pattern:
    """Return the pattern with a recording's path taken from the recipe's own folder."""
    if isinstance(pattern, Replay) and not pattern.file.is_absolute():
        return replace(pattern, file=recipe_path.parent / pattern.file)
    return pattern


def _refuse_impossible(
    pattern: Pattern, layers: tuple[MoELayer, ...], recipe: Recipe, path: Path
) -> None:
    """Refuse a pattern that no batch size of a layer allows; single impossible points are rows."""
    largest = max(recipe.workload.batch_sizes)
    for layer in layers:
        try:
            check(pattern, num_experts=layer.num_experts, top_k=layer.top_k, num_tokens=largest)
        except WorkloadError as error:
            raise RecipeError(
                f"{path}: workload.patterns: layer {layer.name!r}: {error.message}",
                hint=error.hint,
            ) from error


def _refuse_misplaced(section: PlacementSection, layers: tuple[MoELayer, ...], path: Path) -> None:
    """Refuse a placement that a layer's number of experts, or its expert size, does not allow."""
    for layer in layers:
        where = f"{path}: workload.placements: layer {layer.name!r}"
        if layer.expert_size % section.tp_size:
            raise RecipeError(
                f"{where}: tp_size must divide expert_size {layer.expert_size}, "
                f"got {section.tp_size}"
            )
        try:
            place(
                section.strategy,
                num_experts=layer.num_experts,
                num_ranks=section.num_ranks,
                seed=0,
                loads=[1.0] * layer.num_experts,
                num_replicas=section.num_replicas,
                num_nodes=section.num_nodes,
                num_groups=section.num_groups,
            )
        except WorkloadError as error:
            raise RecipeError(f"{where}: {error.message}", hint=error.hint) from error
