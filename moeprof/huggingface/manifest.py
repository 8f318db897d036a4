"""What `moeprof.json` says of a model that moeprof trained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, JsonValue, ValidationError

from moeprof.dataset.files import replace_file
from moeprof.errors import CheckpointError
from moeprof.recipe.schema import Strict

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "moeprof.json"
FORMAT: Final = "moeprof-model"
VERSION: Final = 1
_AGAIN: Final = "Take an undamaged copy of the folder, or train the model again (moeprof train)."


class RouterSettings(Strict):
    """What every gate was tuned by in training and so must be in use; None: nothing."""

    softmax_temperature: Annotated[float, Field(gt=0)] | None = None
    # [num_gates, num_experts], in layer order.
    selection_bias: list[list[float]] | None = None


class Manifest(Strict):
    """A trained model's own description, beside its config.json and weights."""

    format: Literal["moeprof-model"] = FORMAT
    version: Literal[1] = VERSION
    name: Annotated[str, Field(min_length=1)] | None = None
    # bytes: a token's id is the byte's value; tokenizer: the folder holds one of Transformers'.
    tokens: Literal["bytes", "tokenizer"]
    router: RouterSettings = RouterSettings()
    # What a GPT-2 was upcycled by.
    upcycled: dict[str, JsonValue] | None = None
    # By file name, so that a weight that flipped is noticed.
    sha256: dict[str, str] = Field(default_factory=dict)
    # How it was trained: for people, nothing here reads it.
    training: dict[str, JsonValue] | None = None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `moeprof.json`; whoever opens it sees the old or the new one whole. Raises OSError."""
    text = json.dumps(manifest.model_dump(), indent=1, allow_nan=False)
    replace_file(folder / FILE_NAME, f"{text}\n".encode())


def read_manifest(folder: Path) -> Manifest | None:
    """Return a folder's manifest, None where moeprof did not train the model.

    Raises CheckpointError: it cannot be read, is damaged, or is of a newer format.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    document = read_json(path)
    if (found := document.get("format")) != FORMAT:
        raise CheckpointError(f'{path}: must have "format": "{FORMAT}", got {found!r}', hint=_AGAIN)
    version = document.get("version")
    if type(version) is int and version > VERSION:
        raise CheckpointError(
            f"{path}: version must be at most {VERSION}, got {version}",
            hint="Install a newer moeprof.",
        )
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"])
        raise CheckpointError(
            f"{path}: {key}: {detail['msg']}, got {detail['input']!r:.60}", hint=_AGAIN
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a model's folder.

    Raises CheckpointError: it cannot be read, or is no JSON object.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: must be JSON: {error}", hint=_AGAIN) from error
    if not isinstance(document, dict):
        raise CheckpointError(
            f"{path}: must be a JSON object, got {type(document).__name__}", hint=_AGAIN
        )
    return document
