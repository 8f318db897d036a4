"""What a resumed run must share with the one that it goes on from, and what it should."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import TYPE_CHECKING

import torch

import moeprof
from moeprof.errors import CheckpointError
from moeprof.huggingface.extra import transformers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moeprof.recipe.training import TrainingRecipe
    from moeprof.training.beginning import Beginning
    from moeprof.training.corpus import Corpus

# What changes no step: how the run is called, and how often it is kept.
_WITHOUT_EFFECT = {"name", "description", "watch", "variants", "num_seeds"}
_WORDS = {
    "recipe": "another recipe or seed",
    "text": "another text",
    "beginning": "another dense model",
    "device": "another kind of device",
}


def identity_of(
    recipe: TrainingRecipe, corpus: Corpus, beginning: Beginning, device_kind: str
) -> dict[str, str]:
    """Return hashes and names of all that decides a run's result."""
    watched = recipe.watch.model_dump(exclude={"checkpoint_every_seconds"})
    document = {**recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT), "watch": watched}
    text = json.dumps(document, sort_keys=True)
    return {
        "recipe": hashlib.sha256(text.encode()).hexdigest(),
        "text": corpus.fingerprint,
        "beginning": beginning.fingerprint,
        "device": device_kind,
    }


def conditions() -> dict[str, str]:
    """Return what may change the last bits of a result: threads, machine and versions."""
    return {
        "threads": str(torch.get_num_threads()),
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "moeprof": moeprof.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": str(transformers().__version__),
    }


def refuse_other(where: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raise CheckpointError if what is at `where` is of another run than the one that is wanted."""
    others = [words for key, words in _WORDS.items() if found.get(key) != wanted[key]]
    if others:
        raise CheckpointError(
            f"{where}: is of {' and '.join(others)}",
            hint="Train in another folder with --out, or give what that run was given.",
        )


def concerns(found: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return, in words, what has changed since a run was interrupted."""
    return tuple(
        f"resumed with {key} {now[key]} instead of {found.get(key)}: the last bits of the result "
        "may differ"
        for key in now
        if found.get(key) != now[key]
    )
