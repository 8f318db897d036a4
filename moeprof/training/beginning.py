"""The model that a run begins with: drawn from a seed, or a dense one grown into an MoE."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from moeprof.errors import RecipeError, TextError, UsageError
from moeprof.training.mini_model import build_model
from moeprof.training.upcycle import upcycle
from moeprof.training.upcycle_dense import load_dense
from moeprof.training.windows import TokenText

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from moeprof.recipe.load_training import LoadedTraining
    from moeprof.training.upcycle_dense import DenseModel


@dataclass(frozen=True, slots=True, eq=False)
class Beginning:
    """A model before its first step, in float32 on the CPU.

    `fingerprint` is the SHA-256 of an upcycled model's weights; a drawn model's follow from the
    recipe.
    """

    model: nn.Module
    dense: DenseModel | None
    fingerprint: str

    @property
    def tokens(self) -> Literal["bytes", "tokenizer"]:
        """As in the saved model's manifest."""
        return "bytes" if self.dense is None else self.dense.tokens


def begin(loaded: LoadedTraining, dense: Path | None) -> Beginning:
    """Return what a recipe begins with; `dense` is the folder of the model to upcycle.

    Raises UsageError where a recipe wants a dense model and none was given, or the reverse;
    CheckpointError and RecipeError as for the dense model.
    """
    recipe = loaded.recipe
    if recipe.model is not None:
        if dense is not None:
            raise UsageError(
                f"--upcycle {dense}: {loaded.path} has no section upcycle, and trains a model from "
                "nothing",
                hint="Give a recipe with the section upcycle, or leave --upcycle out.",
            )
        model = build_model(
            recipe.model, num_window_tokens=recipe.text.num_window_tokens, seed=recipe.seed
        )
        return Beginning(model, None, "drawn from the seed")
    if dense is None or recipe.upcycle is None:
        raise UsageError(
            f"{loaded.path}: upcycles a dense model, and none was given",
            hint="Give its folder: --upcycle DIR.",
        )
    start = load_dense(dense)
    _refuse_too_long(loaded, dense, start)
    model = upcycle(start.model, recipe.upcycle).train()
    return Beginning(model, start, _fingerprint(model))


def token_text(data: bytes, beginning: Beginning, *, split: str, length: int) -> TokenText:
    """Return a split's text as tokens. Raises TextError: too few for a window of `length`."""
    if beginning.dense is None or beginning.dense.tokens == "bytes":
        return TokenText(np.frombuffer(data, dtype=np.uint8), len(data))
    tokens = np.array(beginning.dense.encode(data), dtype=np.int32)
    if len(tokens) <= length:
        raise TextError(
            f"the {split} split must hold more than one window of {length} tokens, and holds "
            f"{len(tokens)}",
            hint="Give more text, or a smaller text.num_window_tokens in the recipe.",
        )
    return TokenText(tokens, len(data))


def _refuse_too_long(loaded: LoadedTraining, folder: Path, dense: DenseModel) -> None:
    length = loaded.recipe.text.num_window_tokens
    num_positions = int(dense.model.config.n_positions)  # type: ignore[union-attr, arg-type]
    if length > num_positions:
        raise RecipeError(
            f"{loaded.path}: text.num_window_tokens must be at most {num_positions}, the positions "
            f"that {folder} knows, got {length}"
        )


def _fingerprint(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().flatten().numpy().data)
    return digest.hexdigest()
