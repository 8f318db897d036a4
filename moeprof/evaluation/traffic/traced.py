"""The gate logits of a trace's requests, for traffic to be made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from moeprof.errors import TraceError
from moeprof.gate.description import rule_of
from moeprof.trace.reader import open_trace
from moeprof.trace.schema import IS_DUMMY, LOGITS, POSITION, REQUEST

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from moeprof.gate.rule import GateRule


@dataclass(frozen=True, slots=True, eq=False)
class TracedTokens:
    """The tokens of all requests, request by request, each in its order; dummies are left out."""

    path: Path
    num_experts: int
    top_k: int
    rules: tuple[GateRule, ...]
    """Of each layer."""
    logits: tuple[Tensor, ...]
    """Of each layer, [num_tokens, num_experts], float32; recorded in float16."""
    requests: NDArray[np.int64]
    """[num_requests]: numbers in the trace."""
    starts: NDArray[np.int64]
    """[num_requests]: each one's first token."""
    lengths: NDArray[np.int64]
    """[num_requests]: each one's tokens."""


def read_traced(path: Path, num_layers: int | None = None) -> TracedTokens:
    """Return the tokens of a trace at its first layers, or at all.

    Raises TraceError: no trace, damaged, without logits, gate rules, requests or tokens, or of
    fewer layers.
    """
    trace = open_trace(path)
    found = trace.metadata
    rules = found.gate_rules
    layers = found.layers if num_layers is None else found.layers[:num_layers]
    if num_layers is not None and num_layers > len(found.layers):
        raise TraceError(
            f"{path}: must have {num_layers} MoE layers (traffic.num_layers), "
            f"has {len(found.layers)}"
        )
    first = trace.read_layer(layers[0], (REQUEST, POSITION, IS_DUMMY, LOGITS))
    if first.request is None or first.position is None or rules is None:
        missing = "requests" if rules is not None else "gate rules"
        raise TraceError(
            f"{path}: must tell {missing}, as traces of moeprof trace do",
            hint="Record one with moeprof trace, or choose generated traffic.",
        )
    assert first.is_dummy is not None
    order = np.lexsort((first.position, first.request))
    order = order[~first.is_dummy[order]]
    if not len(order):
        raise TraceError(f"{path}: must have a token that is no dummy, has none")
    requests, starts, lengths = np.unique(
        first.request[order], return_index=True, return_counts=True
    )
    logits = [first.logits, *(trace.read_layer(layer, (LOGITS,)).logits for layer in layers[1:])]
    return TracedTokens(
        path,
        found.num_experts,
        found.top_k,
        tuple(rule_of(rule) for rule in rules[: len(layers)]),
        tuple(_float32(each, order) for each in logits),
        requests.astype(np.int64),
        starts.astype(np.int64),
        lengths.astype(np.int64),
    )


def _float32(logits: NDArray[np.float16] | None, order: NDArray[np.int64]) -> Tensor:
    assert logits is not None, "a column that was asked for is there"
    return torch.from_numpy(logits[order].astype(np.float32))
