"""Writes a trained model as a folder that Transformers and moeprof can load."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import torch

from moeprof.dataset.files import replace_file
from moeprof.errors import CheckpointError
from moeprof.huggingface.extra import quiet
from moeprof.huggingface.manifest import Manifest, RouterSettings, write_manifest
from moeprof.huggingface.weights import sha256_of
from moeprof.training.upcycle_dense import copy_tokenizer

if TYPE_CHECKING:
    from moeprof.recipe.training import TrainingRecipe
    from moeprof.training.beginning import Beginning
    from moeprof.training.learner import Learner

_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}
_WEIGHTS: Final = "model.safetensors"


def save_model(
    folder: Path,
    learner: Learner,
    recipe: TrainingRecipe,
    *,
    beginning: Beginning,
    identity: dict[str, str],
) -> None:
    """Write config, weights in the recipe's dtype, tokenizer files and `moeprof.json`.

    Each file is replaced as a whole, the manifest with the weights' hash last, so that a folder
    that a kill left half new is noticed when it is loaded. Raises CheckpointError: it cannot be
    written.
    """
    model: Any = deepcopy(learner.model).to("cpu", _DTYPES[recipe.saved_dtype])
    try:
        with TemporaryDirectory() as temporary:
            with quiet():
                model.save_pretrained(temporary)
            for path in sorted(Path(temporary).iterdir()):
                replace_file(folder / path.name, path.read_bytes())
        if beginning.dense is not None:
            copy_tokenizer(beginning.dense, folder)
        write_manifest(
            folder,
            Manifest(
                name=recipe.name,
                tokens=beginning.tokens,
                router=_router(learner, recipe),
                upcycled=recipe.upcycle.model_dump(mode="json") if recipe.upcycle else None,
                sha256={_WEIGHTS: sha256_of(folder / _WEIGHTS)},
                training={"seed": recipe.seed, **identity},
            ),
        )
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written: {error.strerror}") from error


def _router(learner: Learner, recipe: TrainingRecipe) -> RouterSettings:
    temperature = recipe.gate.softmax_temperature
    return RouterSettings(
        softmax_temperature=temperature if temperature != 1 else None,
        selection_bias=None if learner.bias is None else learner.bias.tolist(),
    )
