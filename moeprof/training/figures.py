"""The figures of a finished run, and the file that holds them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final

from moeprof.dataset.files import replace_file
from moeprof.errors import CheckpointError
from moeprof.huggingface.manifest import read_json

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "train.json"
_FORMAT: Final = "moeprof-training-1"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A model on a text that it was not trained on; routing is the mean over layers and batches.

    `step_diversity_fraction` is the share of experts that 16 neighbouring tokens use,
    `load_imbalance` the fullest expert over the mean.
    """

    num_tokens: int
    cross_entropy_nats: float
    bits_per_byte: float
    diversity_fraction: float
    step_diversity_fraction: float
    load_imbalance: float
    router_entropy_nats: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run came to.

    On one machine, all of it but the seconds follows from recipe, text and seed.

    `trigram_bits_per_byte` is the byte model of the two bytes before, on the same split; None in
    the runs of a study, which fits it once. `identity` is what a resumed run must share,
    `conditions` what it should; those told are of the process that finished.
    """

    recipe_name: str
    seed: int
    identity: dict[str, str]
    conditions: dict[str, str]
    text_source: str
    num_files: int
    num_train_bytes: int
    num_parameters: int
    num_steps: int
    num_train_tokens: int
    spent_seconds: float
    best_validation_bits_per_byte: float
    best_validation_step: int
    last_validation_bits_per_byte: float
    test: Judgement
    trigram_bits_per_byte: float | None


def write_figures(folder: Path, figures: Figures) -> None:
    """Write `train.json`, which says that a run is complete. Raises CheckpointError."""
    document = {"format": _FORMAT, **asdict(figures)}
    path = folder / FILE_NAME
    try:
        replace_file(path, f"{json.dumps(document, indent=1, allow_nan=False)}\n".encode())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error


def read_figures(folder: Path) -> Figures | None:
    """Return the figures of a complete run, None where there are none.

    Raises CheckpointError: the file is damaged or of another format.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    document = read_json(path)
    if document.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: must be of the format {_FORMAT}, got {document.get('format')!r}",
            hint="It is another moeprof's: train in another folder.",
        )
    try:
        values = {field.name: document[field.name] for field in fields(Figures)}
        return Figures(**values | {"test": Judgement(**values["test"])})
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: is damaged: {error!r}",
            hint="Remove it: the same command then finds the figures again, or trains.",
        ) from error
