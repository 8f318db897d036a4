"""Loads a Transformers MoE from a local folder, running none of the folder's code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from moeprof.errors import CheckpointError, DeviceOutOfMemory, DeviceUnavailable
from moeprof.gate.site import find_gates
from moeprof.gate.steering import tune
from moeprof.huggingface.extra import quiet, transformers
from moeprof.huggingface.manifest import Manifest, read_json, read_manifest
from moeprof.huggingface.state import load_state
from moeprof.huggingface.text import Encoder, TokenizerEncoder, bytes_as_tokens
from moeprof.huggingface.weights import check_sha256, weight_files

if TYPE_CHECKING:
    from collections.abc import Callable
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
    `stored` leaves them as they are.

    Raises:
        CheckpointError: no folder or config.json, a family that is not known, or weights or a
            tokenizer that are missing, damaged, or of another model.
        DeviceUnavailable: the device is not on this machine.
        DeviceOutOfMemory: the model does not fit on it.
        ExtraMissing: Transformers is not installed.

    """
    place = _device(device)
    config = _config(folder)
    manifest = read_manifest(folder)
    upcycled = manifest.upcycled if manifest else None
    _check_type(folder, config, upcycled=upcycled is not None)
    files = weight_files(folder)
    if manifest:
        check_sha256(folder, manifest.sha256)
    with quiet():
        if upcycled is None:
            model = _from_pretrained(folder, _DTYPES[dtype])
        else:
            model = _upcycled(folder, upcycled, files, _DTYPES[dtype])
        num_vocabulary = int(model.get_input_embeddings().num_embeddings)
        tokens = manifest.tokens if manifest else "tokenizer"
        encode = _encoder(folder, tokens, num_vocabulary)
    family = find_gates(model)[0].family
    if manifest:
        _tune(folder, model, manifest)
    name = (manifest.name if manifest else None) or folder.resolve().name
    loaded = _on(place, model.eval())
    return LoadedModel(loaded, name, family, tokens, encode, num_vocabulary, manifest)


def _device(device: str) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        raise DeviceUnavailable(
            f"device {device!r}: {_first_line(error)}",
            hint="Use cpu, or cuda:0 where there is one.",
        ) from error
    return place


def _on(place: torch.device, model: nn.Module) -> nn.Module:
    try:
        return model.to(place)
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemory(
            f"device {place}: the model does not fit: {_first_line(error)}",
            hint="Load it as bf16, or on a device with more memory.",
        ) from error


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise CheckpointError(
            f"{folder}: must be a folder with a model, found {found}",
            hint="Give a local folder; models are not downloaded.",
        )
    path = folder / "config.json"
    if not path.exists():
        raise CheckpointError(
            f"{folder}: has no config.json",
            hint="Give the folder that moeprof train, or save_pretrained, wrote.",
        )
    return read_json(path)


def _check_type(folder: Path, config: dict[str, Any], *, upcycled: bool) -> None:
    found = config.get("model_type")
    known = ("gpt2",) if upcycled else MODEL_TYPES
    if found not in known:
        hint = "A GPT-2 becomes an MoE by moeprof train --upcycle." if found == "gpt2" else None
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type must be {' or '.join(known)}, got {found!r}",
            hint=hint,
        )


def _from_pretrained(folder: Path, dtype: torch.dtype | None) -> Any:
    library = transformers()
    model, info = _vendor(
        folder,
        lambda: library.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype or "auto",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        ),
    )
    for name, found, expected in sorted(info["mismatched_keys"]):
        raise CheckpointError(
            f"{folder}: {name} must be {list(expected)} as config.json says, got {list(found)}",
            hint="The weights are of another model than config.json: copy the folder again.",
        )
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"{folder}: the weights lack {len(missing)} tensors of a {type(model).__name__}, the "
            f"first is {missing[0]}",
            hint="The weights are of another model than config.json: copy the folder again.",
        )
    return model


def _upcycled(
    folder: Path, settings: dict[str, Any], files: tuple[Path, ...], dtype: torch.dtype | None
) -> Any:
    from moeprof.huggingface.upcycled import build_upcycled  # noqa: PLC0415 - it uses this package

    config = _vendor(
        folder, lambda: transformers().GPT2Config.from_pretrained(folder, local_files_only=True)
    )
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and then read over
        model = build_upcycled(config, settings)
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
    library = transformers()
    tokenizer = _vendor(
        folder,
        lambda: library.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        ),
    )
    return TokenizerEncoder(tokenizer, num_vocabulary)


def _tune(folder: Path, model: nn.Module, manifest: Manifest) -> None:
    bias = manifest.router.selection_bias
    try:
        tune(
            model,
            softmax_temperature=manifest.router.softmax_temperature,
            selection_bias=None if bias is None else torch.tensor(bias, dtype=torch.float32),
        )
    except (CheckpointError, ValueError) as error:  # rows of different lengths make no tensor
        raise CheckpointError(f"{folder / 'moeprof.json'}: router: {error}") from error


def _vendor(folder: Path, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # what a damaged folder raises there is not documented
        raise CheckpointError(
            f"{folder}: Transformers cannot load it: {type(error).__name__}: {_first_line(error)}",
            hint="Check the files named, or copy the folder again.",
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
