"""The import of `routed_experts`, which vLLM returns with `--enable-return-routed-experts`.

An array is one request: [num_tokens, num_layers, top_k] of int16, or of another whole type in other
versions; num_tokens is that of prompt and answer less one, because the last token is never run
(docs.vllm.ai, "Routed Experts Return"; `vllm/outputs.py`, `CompletionOutput.routed_experts`).
Version 0.21 gives the prompt apart, as `prompt_routed_experts`.

A .npy file is one request; a .npz file holds one in each array, in the file's order; a .jsonl file
has one in each line: a response of the server, or an object with its fields.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from moeprof.errors import TraceError
from moeprof.trace.importers.choices import RecordedPass, choices
from moeprof.trace.importers.vllm_lines import requests_in_lines
from moeprof.trace.importers.write import write_choices
from moeprof.trace.metadata import Kind, TraceMetadata
from moeprof.trace.text import describe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_NUM_AXES = 3


def import_vllm(file: Path, out: Path, *, num_experts: int | None, top_k: int | None) -> Kind:
    """Write a recording as a trace; the files do not tell `num_experts`.

    Layers are numbered as in the arrays; vLLM 0.21 has no place in them for dense layers.

    Raises TraceError: the file is missing, damaged, of another kind or shape, holds experts out of
    range, or `num_experts` was not given.
    """
    passes = list(_requests(file))
    if num_experts is None:
        highest = max((int(each.experts.max(initial=0)) for each in passes), default=0)
        raise TraceError(
            f"{file}: does not tell how many experts the model has; the highest chosen is "
            f"{highest}",
            hint="Give --num-experts.",
        )
    found = choices(file, passes, num_experts=num_experts, top_k=top_k)
    metadata = TraceMetadata(
        kind="routing",
        source="vllm",
        num_experts=num_experts,
        top_k=found.top_k,
        layers=found.layers,
        files=(describe(file.name, file.read_bytes()),),
    )
    write_choices(out, found, metadata, are_requests=True)
    return "routing"


def _requests(file: Path) -> Iterator[RecordedPass]:
    if file.suffix == ".jsonl":
        found = requests_in_lines(file)
    elif file.suffix in {".npy", ".npz"}:
        found = ((name, array, None, 0) for name, array in _arrays(file))
    else:
        raise TraceError(f"{file}: must end in .npy, .npz or .jsonl, got {file.suffix!r}")
    for number, (where, array, token_ids, start) in enumerate(found):
        if array.ndim != _NUM_AXES or array.dtype.kind not in "iu":
            raise TraceError(
                f"{file}: {where}: must be [num_tokens, num_layers, top_k] of whole numbers, found "
                f"{list(array.shape)} of {array.dtype}"
            )
        num_tokens = len(array)
        yield RecordedPass(
            where=where,
            experts=array.transpose(1, 0, 2),
            request=np.full(num_tokens, number, dtype=np.int32),
            position=np.arange(start, start + num_tokens, dtype=np.int32),
            token_id=token_ids,
        )


def _arrays(file: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            yield "request 0", loaded
            return
        with loaded:
            for name in loaded.files:
                yield f"array {name}", loaded[name]
    except OSError as error:
        raise TraceError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TraceError(
            f"{file}: must hold NumPy arrays of whole numbers, found: {error}",
            hint="Save routed_experts with numpy.save, or numpy.savez for several requests.",
        ) from error
