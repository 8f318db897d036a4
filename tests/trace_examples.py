"""Small traces, and passes of an engine whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moeprof.trace.metadata import SourceFile, TraceMetadata
from moeprof.trace.tokens import RoutedTokens
from moeprof.trace.writer import writing_trace

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NUM_EXPERTS = 8
TOP_K = 2
LAYERS = (1, 3)


def metadata(**changes: Any) -> TraceMetadata:
    values: dict[str, Any] = {
        "kind": "routing",
        "source": "recorded",
        "num_experts": NUM_EXPERTS,
        "top_k": TOP_K,
        "layers": LAYERS,
        "files": (SourceFile("text.txt", "00", 4),),
        "model": "tiny",
        "family": "mixtral",
    }
    return TraceMetadata(**values | changes)


def routed(num_tokens: int, *, seed: int = 0, num_layers: int = len(LAYERS)) -> RoutedTokens:
    """Return tokens of requests of 10, with logits whose two greatest are the experts."""
    draw = np.random.default_rng(seed)
    logits = draw.standard_normal((num_layers, num_tokens, NUM_EXPERTS)).astype(np.float16)
    experts = np.argsort(-logits, axis=2)[:, :, :TOP_K]
    weights = np.exp(np.take_along_axis(logits.astype(np.float32), experts, axis=2))
    numbers = np.arange(num_tokens, dtype=np.int32)
    return RoutedTokens(
        experts=experts.astype(np.int16),
        request=numbers // 10,
        position=numbers % 10,
        token_id=draw.integers(256, size=num_tokens, dtype=np.int32),
        weights=weights / weights.sum(axis=2, keepdims=True),
        logits=logits,
    )


def write_example(path: Path, num_tokens: int = 50, **changes: Any) -> RoutedTokens:
    """Write a trace of some tokens, and return them."""
    tokens = routed(num_tokens)
    with writing_trace(path, metadata(**changes), weights=True, logits=True) as writer:
        writer.write(tokens)
    return tokens


def choose(
    draw: np.random.Generator, num_tokens: int, num_experts: int, top_k: int, num_layers: int
) -> NDArray[np.int16]:
    """Return choices as a trained model makes them, [num_layers, num_tokens, top_k].

    Experts are of unequal popularity, which differs by layer, and tokens of one text share a topic.
    """
    popularity = draw.permuted(
        np.tile(0.6 * np.log(np.arange(1, num_experts + 1)), (num_layers, 1)), axis=1
    )
    topic = draw.normal(0, 0.7, size=(num_layers, 1, num_experts))
    logits = -popularity[:, np.newaxis] + topic
    logits = logits + draw.gumbel(size=(num_layers, num_tokens, num_experts))
    return np.argsort(-logits, axis=2)[:, :, :top_k].astype(np.int16)
