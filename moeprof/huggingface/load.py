"""Loads a Transformers MoE from a local folder, running none of the folder's code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from moeprof.errors import CheckpointError, DeviceOutOfMemory, DeviceUnavailable
from moeprof.gate.families import check_version
from moeprof.gate.site import find_gates
from moeprof.gate.steering import tune
from moeprof.huggingface.extra import quiet, transformers
from moeprof.huggingface.manifest import FILE_NAME, Manifest, read_manifest
from moeprof.huggingface.pretrained import (
    first_line,
    from_pretrained,
    load_tokenizer,
    read_config,
    vendor,
)
from moeprof.huggingface.state import load_state
from moeprof.huggingface.text import Encoder, bytes_as_tokens
from moeprof.huggingface.upcycled import build_upcycled
from moeprof.huggingface.weights import check_sha256, weight_files

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

LoadDtype = Literal["fp32", "bf16", "stored"]
MODEL_TYPES: Final = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v3", "gpt_oss")
"""What config.json calls the families that are known; a GPT-2 is one where moeprof upcycled it."""

_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "stored": None}
_NUM_BYTES: Final = 256  # ids that a model of bytes must know


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to run, with how it reads text."""

    model: nn.Module
    """In eval mode, its gates tuned as they were in training."""
    name: str
    family: str
    """As in `GateSite.family`."""
    tokens: Literal["bytes", "tokenizer"]
    encode: Encoder
    """Text into token ids, without special tokens; raises TextError."""
    num_vocabulary: int
    manifest: Manifest | None
    """What moeprof wrote of it; None for a model that it did not train."""


def load_model(folder: Path, *, dtype: LoadDtype = "fp32", device: str = "cpu") -> LoadedModel:
    """Return the model in a folder that `save_pretrained`, or `moeprof train`, wrote.

    Only safetensors are read and no file is fetched. `dtype` is what weights are turned into;
    `stored` is the type that config.json names, which is theirs where one program wrote both.

    Raises:
        CheckpointError: no folder or config.json, a family that is not known, or weights or a
            tokenizer that are missing, damaged, or of another model.
        DeviceUnavailable: the device is not on this machine.
        DeviceOutOfMemory: the model does not fit on it.
        ExtraMissing: Transformers is not installed.

    """
    place = _device(device)
    check_version()
    config = read_config(folder)
    manifest = read_manifest(folder)
    upcycled = manifest.upcycled if manifest else None
    _check_type(folder, config, upcycled=upcycled is not None)
    files = weight_files(folder)
    if manifest:
        check_sha256(folder, manifest.sha256)
    with quiet():
        if upcycled is None:
            model = from_pretrained("AutoModelForCausalLM", folder, _DTYPES[dtype])
        else:
            model = _upcycled(folder, upcycled, files, _DTYPES[dtype])
        num_vocabulary = int(model.get_input_embeddings().num_embeddings)
        tokens = manifest.tokens if manifest else "tokenizer"
        encode = _encoder(folder, tokens, num_vocabulary)
    family = _family(folder, model)
    if manifest:
        _tune(folder, model, manifest, place)
    name = (manifest.name if manifest else None) or folder.resolve().name
    loaded = _on(place, model.eval())
    return LoadedModel(loaded, name, family, tokens, encode, num_vocabulary, manifest)


def _device(device: str) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    # A torch without CUDA asserts, and one without another back end imports in vain.
    except (RuntimeError, AssertionError, ImportError) as error:
        raise DeviceUnavailable(
            f"device {device!r}: {first_line(error)}",
            hint="Use cpu, or cuda:0 where there is one.",
        ) from error
    return place


def _on(place: torch.device, model: nn.Module) -> nn.Module:
    try:
        return model.to(place)
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemory(
            f"device {place}: the model does not fit: {first_line(error)}",
            hint="Load it as bf16, or on a device with more memory.",
        ) from error


def _check_type(folder: Path, config: dict[str, Any], *, upcycled: bool) -> None:
    found = config.get("model_type")
    known = ("gpt2",) if upcycled else MODEL_TYPES
    if found not in known:
        hint = "A GPT-2 becomes an MoE by moeprof train --upcycle." if found == "gpt2" else None
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type must be {' or '.join(known)}, got {found!r}",
            hint=hint,
        )


def _upcycled(
    folder: Path, settings: dict[str, Any], files: tuple[Path, ...], dtype: torch.dtype | None
) -> Any:
    config = vendor(
        folder, lambda: transformers().GPT2Config.from_pretrained(folder, local_files_only=True)
    )
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and then read over
        try:
            model = build_upcycled(config, settings)
        except CheckpointError as error:
            raise CheckpointError(f"{folder / FILE_NAME}: {error.message}") from error
    load_state(model, files, dtype)
    return model


def _encoder(folder: Path, tokens: str, num_vocabulary: int) -> Encoder:
    if tokens == "bytes":
        if num_vocabulary < _NUM_BYTES:
            raise CheckpointError(
                f"{folder}: a model of bytes must know {_NUM_BYTES} tokens, got {num_vocabulary}"
            )
        return bytes_as_tokens
    if not any(folder.glob("*token*")) and not any(folder.glob("vocab*")):
        raise CheckpointError(
            f"{folder}: has no tokenizer",
            hint="Copy the files of the model's tokenizer (tokenizer.json, …) into the folder.",
        )
    return load_tokenizer(folder, num_vocabulary)


def _family(folder: Path, model: nn.Module) -> str:
    try:
        return find_gates(model)[0].family
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error.message}", hint=error.hint) from error


def _tune(folder: Path, model: nn.Module, manifest: Manifest, place: torch.device) -> None:
    bias = manifest.router.selection_bias
    try:
        # Not a buffer, so it does not move with the model; left behind, every step would copy it.
        rows = None if bias is None else torch.tensor(bias, dtype=torch.float32, device=place)
        tune(
            model,
            softmax_temperature=manifest.router.softmax_temperature,
            selection_bias=rows,
        )
    except (CheckpointError, ValueError) as error:  # rows of different lengths make no tensor
        raise CheckpointError(f"{folder / FILE_NAME}: router: {error}") from error
