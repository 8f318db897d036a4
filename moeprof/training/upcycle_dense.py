"""Loads the dense GPT-2 that upcycling begins with, and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch

from moeprof.dataset.files import replace_file
from moeprof.errors import CheckpointError
from moeprof.huggingface.extra import quiet
from moeprof.huggingface.manifest import read_manifest
from moeprof.huggingface.pretrained import from_pretrained, load_tokenizer, read_config
from moeprof.huggingface.text import Encoder, bytes_as_tokens
from moeprof.huggingface.weights import weight_files

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# The 256 bytes, and room for special tokens; a larger vocabulary was made by a tokenizer.
_BYTE_VOCABULARIES: Final = range(256, 1025)


@dataclass(frozen=True, slots=True, eq=False)
class DenseModel:
    """A GPT2LMHeadModel in float32 and eval mode, with how it reads text."""

    model: nn.Module
    name: str
    tokens: Literal["bytes", "tokenizer"]
    encode: Encoder
    """Text into token ids, without special tokens; raises TextError."""
    num_vocabulary: int
    tokenizer_files: tuple[Path, ...]
    """What has to stand beside the model wherever it is saved; of a model of bytes, nothing."""


def load_dense(folder: Path) -> DenseModel:
    """Return the GPT-2 or DistilGPT2 in a folder that `save_pretrained` wrote.

    Only safetensors are read and no file is fetched. Without a tokenizer its tokens are bytes, if
    its vocabulary is of that size.

    Raises:
        CheckpointError: no folder or config.json, not a GPT-2, upcycled already, or weights or a
            tokenizer that are missing, damaged, or of another model.
        ExtraMissing: Transformers is not installed.

    """
    _check_dense(folder)
    weight_files(folder)
    with quiet():
        model = from_pretrained("GPT2LMHeadModel", folder, torch.float32)
        num_vocabulary = int(model.config.vocab_size)
        files = _tokenizer_files(folder)
        encode = _encoder(folder, files, num_vocabulary)
    return DenseModel(
        model=model.eval(),
        name=folder.resolve().name,
        tokens="tokenizer" if files else "bytes",
        encode=encode,
        num_vocabulary=num_vocabulary,
        tokenizer_files=files,
    )


def copy_tokenizer(dense: DenseModel, folder: Path) -> None:
    """Put the tokenizer's files, if there are any, into a folder, each whole. Raises OSError."""
    for path in dense.tokenizer_files:
        replace_file(folder / path.name, path.read_bytes())


def _check_dense(folder: Path) -> None:
    model_type = read_config(folder).get("model_type")
    if model_type != "gpt2":
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type must be gpt2, got {model_type!r}",
            hint="GPT-2 and DistilGPT2 can be upcycled.",
        )
    manifest = read_manifest(folder)
    if manifest is not None and manifest.upcycled is not None:
        raise CheckpointError(
            f"{folder}: is upcycled already", hint="Give the dense model that it was made of."
        )


def _tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of a folder's tokenizer; of half a one, none."""
    names = [name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    if "tokenizer.json" in names or {"vocab.json", "merges.txt"} <= set(names):
        return tuple(folder / name for name in names)
    return ()


def _encoder(folder: Path, files: tuple[Path, ...], num_vocabulary: int) -> Encoder:
    if files:
        return load_tokenizer(folder, num_vocabulary)
    if num_vocabulary not in _BYTE_VOCABULARIES:
        raise CheckpointError(
            f"{folder}: has no tokenizer, and {num_vocabulary} tokens are no vocabulary of bytes "
            f"({_BYTE_VOCABULARIES.start} to {_BYTE_VOCABULARIES.stop - 1})",
            hint="Copy tokenizer.json, or vocab.json and merges.txt, of the model there.",
        )
    return bytes_as_tokens
