"""The recording of a model's routing over texts."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from moeprof.errors import DeviceOutOfMemory, TextError, UsageError
from moeprof.gate.description import describe
from moeprof.gate.site import find_gates
from moeprof.trace.metadata import TraceMetadata
from moeprof.trace.recorder import GateRecorder
from moeprof.trace.text import windows
from moeprof.trace.tokens import RoutedTokens
from moeprof.trace.writer import writing_trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from moeprof.huggingface.load import LoadedModel
    from moeprof.trace.text import Text


class OnTokens(Protocol):
    """Who is told how far a recording has come."""

    def __call__(self, num_done: int, num_tokens: int) -> None:
        """Take note of the tokens that are recorded, of all."""


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """How texts are cut into requests and run.

    A text is cut into windows of `window` tokens, each of which is a request; `batch` of them run
    at once.
    """

    window: int = 512
    batch: int = 8
    num_tokens_max: int | None = None
    top_only: bool = False
    """Leave the logits out."""


def record_trace(
    loaded: LoadedModel,
    texts: Sequence[Text],
    out: Path,
    settings: RecordSettings,
    *,
    on_tokens: OnTokens | None = None,
) -> None:
    """Run a model over texts, and write what its gates answer to `out`.

    Experts and weights are the model's own, never computed again. A logit beyond what float16
    holds, ±65504, is held to that and counted in the metadata; a NaN is an error, because a gate
    that answers so chooses nothing.

    Raises CheckpointError: the model has no known gates. TextError: no token. TraceError: a NaN, a
    gate that runs several times, or a file that cannot be written. UsageError: a window longer than
    the model's positions. DeviceOutOfMemory: the batch is too large.
    """
    sites = find_gates(loaded.model)
    _check_window(loaded, settings.window)
    requests = _requests(loaded, texts, settings)
    num_tokens = sum(len(request) for request in requests)
    rule = sites[0].rule
    metadata = TraceMetadata(
        kind="routing",
        source="recorded",
        num_experts=rule.num_experts,
        top_k=rule.top_k,
        layers=tuple(site.layer for site in sites),
        files=tuple(text.source for text in texts),
        model=loaded.name,
        family=loaded.family,
        gate_rules=tuple(describe(site.rule) for site in sites),
    )
    with (
        writing_trace(out, metadata, weights=True, logits=not settings.top_only) as writer,
        GateRecorder(sites, with_logits=not settings.top_only) as recorder,
    ):
        first = 0
        for batch in _batches(requests, settings.batch):
            run(loaded, batch)
            answers = recorder.take()
            writer.num_logits_at_limit += answers.num_logits_at_limit
            length = len(batch[0])
            numbers = np.arange(first, first + len(batch), dtype=np.int32)
            writer.write(
                RoutedTokens(
                    experts=answers.experts,
                    request=np.repeat(numbers, length),
                    position=np.tile(np.arange(length, dtype=np.int32), len(batch)),
                    token_id=np.array(batch, dtype=np.int32).ravel(),
                    weights=answers.weights,
                    logits=answers.logits,
                )
            )
            first += len(batch)
            if on_tokens:
                on_tokens(writer.num_tokens, num_tokens)


def device_of(selector: str) -> str:
    """Return the device that `auto` is here, the first GPU or else the CPU; others unchanged."""
    if selector != "auto":
        return selector
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def run(loaded: LoadedModel, batch: Sequence[Sequence[int]]) -> None:
    """Run a model over requests of one length; what it answers is not needed.

    Raises DeviceOutOfMemory: the batch is too large.
    """
    model = loaded.model
    device = next(model.parameters()).device
    # Logits of the vocabulary would take the most memory; one row of them is enough.
    can_spare = "logits_to_keep" in inspect.signature(model.forward).parameters
    try:
        with torch.inference_mode():
            ids = torch.tensor(batch, dtype=torch.int64, device=device)
            spared = {"logits_to_keep": 1} if can_spare else {}
            model(input_ids=ids, use_cache=False, **spared)
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemory(
            f"{device}: too little memory for {len(batch)} requests of {len(batch[0])} tokens",
            hint="Give a smaller --batch or --window.",
        ) from error


def _requests(
    loaded: LoadedModel, texts: Sequence[Text], settings: RecordSettings
) -> list[list[int]]:
    requests: list[list[int]] = []
    left = settings.num_tokens_max
    for text in texts:
        token_ids = _encoded(loaded, text)
        if left is not None:
            token_ids = token_ids[:left]
            left -= len(token_ids)
        requests += [list(each) for each in windows(token_ids, settings.window)]
    if not requests:
        names = ", ".join(text.source.name for text in texts) or "no file"
        raise TextError(f"{names}: must give at least one token, gave none")
    return requests


def _encoded(loaded: LoadedModel, text: Text) -> list[int]:
    try:
        return loaded.encode(text.content)
    except TextError as error:
        raise TextError(f"{text.source.name}: {error.message}", hint=error.hint) from error


def _batches(requests: Sequence[list[int]], batch: int) -> Iterator[list[list[int]]]:
    # Only neighbours of one length run together: nothing is padded, and requests stay in order.
    for _, alike in groupby(requests, key=len):
        while part := list(islice(alike, batch)):
            yield part


def _check_window(loaded: LoadedModel, window: int) -> None:
    num_positions = getattr(loaded.model.config, "max_position_embeddings", None)
    if num_positions is not None and window > num_positions:
        raise UsageError(
            f"--window must lie in 1..{num_positions}, the positions of {loaded.name}, got {window}"
        )
