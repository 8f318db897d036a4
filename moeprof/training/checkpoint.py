"""A run that can go on: tensors and place in one safetensors file, replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from moeprof.dataset.files import replace_file
from moeprof.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_FORMAT: Final = "moeprof-checkpoint-1"
_REMOVE: Final = "Remove the file: the same command then trains from the beginning."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands: what it must be resumed with, and what it has come to.

    `identity` decides the result, so that a resumed run must have the same; `conditions` may
    change its last bits. `best_step` is the number of steps after which the best was found.
    """

    identity: dict[str, str]
    conditions: dict[str, str]
    num_done: int
    num_curve_bytes: int
    num_reading_bytes: int
    spent_seconds: float
    validation_bits_per_byte: float | None
    best_bits_per_byte: float | None
    best_step: int | None


def save_checkpoint(path: Path, place: Place, tensors: Mapping[str, Tensor]) -> None:
    """Replace the checkpoint at `path`; a kill at any moment leaves the old or the new one whole.

    Raises CheckpointError: it cannot be written.
    """
    from safetensors.torch import save  # noqa: PLC0415 - comes with an extra

    own = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    text = json.dumps(asdict(place))
    metadata = {"format": _FORMAT, "place": text, "sha256": _digest(own, text)}
    try:
        replace_file(path, save(own, metadata=metadata))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error


def load_checkpoint(path: Path) -> tuple[Place, dict[str, Tensor]] | None:
    """Return a run's place and tensors, None where there is no checkpoint.

    Raises CheckpointError: it cannot be read, or is damaged in any bit.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - comes with an extra

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}", hint=_REMOVE) from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: must be of the format {_FORMAT}, got {metadata.get('format')!r}",
            hint="It is another moeprof's: train in another folder.",
        )
    text = metadata.get("place", "")
    if _digest(tensors, text) != metadata.get("sha256"):
        raise CheckpointError(f"{path}: is damaged: its content has changed", hint=_REMOVE)
    return _place(path, text), tensors


def _place(path: Path, text: str) -> Place:
    try:
        document: dict[str, Any] = json.loads(text)
        return Place(**{field.name: document[field.name] for field in fields(Place)})
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is damaged: {error!r}", hint=_REMOVE) from error


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().numpy().data)
    return digest.hexdigest()
