"""The files that hold a model's weights, looked at before anything is built."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from moeprof.errors import CheckpointError
from moeprof.huggingface.extra import safetensors
from moeprof.huggingface.manifest import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SINGLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_AGAIN: Final = (
    "Copy or download the folder again, whole; a file of a few hundred bytes is a Git LFS pointer, "
    "which git lfs pull replaces."
)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return a folder's weight files, each of which can be opened and is as long as it says.

    Raises:
        CheckpointError: there are none, or only pickled ones, which can run code when they are
            read; one that the index names is not there; or one is damaged.

    """
    files = tuple(folder / name for name in _names(folder))
    for path in files:
        _check(path)
    return files


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(folder: Path, expected: Mapping[str, str]) -> None:
    """Return if the files of a folder have the hashes that they had when they were written.

    Raises CheckpointError: one has not, or is not there.
    """
    for name, digest in expected.items():
        path = folder / name
        try:
            found = sha256_of(path)
        except OSError as error:
            raise CheckpointError(
                f"{path}: cannot be read: {error.strerror}", hint=_AGAIN
            ) from error
        if found != digest:
            raise CheckpointError(
                f"{path}: is damaged: its SHA-256 must be {digest[:12]}…, got {found[:12]}…",
                hint=_AGAIN,
            )


def _names(folder: Path) -> tuple[str, ...]:
    if (folder / _SINGLE).exists():
        return (_SINGLE,)
    index = folder / _INDEX
    if index.exists():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{index}: must have a weight_map of file names", hint=_AGAIN)
        names = sorted({str(name) for name in shards.values()})
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise CheckpointError(
                f"{folder}: {len(missing)} of {len(names)} weight files are missing, the first "
                f"is {missing[0]}",
                hint=_AGAIN,
            )
        return tuple(names)
    if pickles := sorted(path.name for kind in _PICKLES for path in folder.glob(kind)):
        raise CheckpointError(
            f"{folder}: weights must be safetensors, found {pickles[0]}, which can run code when "
            "it is read",
            hint="Convert it where you trust it: load the model with Transformers there and call "
            "save_pretrained.",
        )
    raise CheckpointError(
        f"{folder}: has no weights: must have {_SINGLE}, or {_INDEX} and the files it names",
        hint="Give the folder that moeprof train, or save_pretrained, wrote.",
    )


def _check(path: Path) -> None:
    library = safetensors()
    try:
        with library.safe_open(path, framework="pt") as file:
            num_tensors = len(file.keys())
    except (library.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: is damaged or no safetensors file ({path.stat().st_size} bytes): {error}",
            hint=_AGAIN,
        ) from error
    if num_tensors == 0:
        raise CheckpointError(f"{path}: holds no tensor", hint=_AGAIN)
