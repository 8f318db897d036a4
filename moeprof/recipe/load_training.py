"""Reading a training recipe's file, with every fault named by file, key and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from moeprof.errors import RecipeError
from moeprof.recipe.faults import describe
from moeprof.recipe.load import read_toml, refuse_other_kind
from moeprof.recipe.training import TrainingRecipe

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoadedTraining:
    """A training recipe and the file it was read from."""

    path: Path
    recipe: TrainingRecipe


def load_training(path: Path, *, seed: int | None = None) -> LoadedTraining:
    """Read and check a training recipe; `seed` replaces the recipe's own.

    Raises RecipeError naming the file, the key, what was found and what would be right.
    """
    _, written = read_toml(path)
    refuse_other_kind(written, "training", path)
    if seed is not None:
        written["seed"] = seed
    try:
        recipe = TrainingRecipe.model_validate(written)
    except ValidationError as error:
        raise RecipeError(f"{path}: {describe(error, TrainingRecipe)}") from error
    return LoadedTraining(path=path, recipe=recipe)
