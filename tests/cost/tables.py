"""Small tables of points that follow a known law."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from moeprof.cost.demand import ideal_seconds
from moeprof.cost.points import points_from_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moeprof.cost.points import Points

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
SHAPES = ((2048, 768, 128, 8), (4096, 1536, 64, 8), (1024, 512, 32, 4), (7168, 2048, 256, 8))


def row(**changes: Any) -> dict[str, Any]:
    """Return one row: a Qwen3-30B-A3B layer in bf16 on an H200, 16 tokens, uniform routing."""
    usual = {
        "kernel": "triton",
        "engine": "vllm",
        "engine_version": "0.24.0",
        "device_kind": "imported:h200-sxm",
        "device_name": "NVIDIA H200",
        "hidden_size": 2048,
        "expert_size": 768,
        "num_experts": 128,
        "top_k": 8,
        "weight_dtype": "bf16",
        "activation_dtype": "bf16",
        "batch_size": 16,
        "routing_pattern": "balanced",
        "status": "ok",
        "latency_seconds": 1e-4,
    }
    return usual | changes


def table(rows: list[dict[str, Any]]) -> pa.Table:
    """Return rows as a table; a column that only some rows have is null in the others."""
    names = dict.fromkeys(name for each in rows for name in each)
    return pa.table({name: [each.get(name) for each in rows] for name in names})


def grid(**changes: Any) -> Points:
    """Return every shape at every batch size, one curve after the other."""
    rows = [
        row(
            hidden_size=hidden,
            expert_size=expert,
            num_experts=experts,
            top_k=top_k,
            batch_size=tokens,
            **changes,
        )
        for (hidden, expert, experts, top_k), tokens in product(SHAPES, TOKENS)
    ]
    return points_from_table(table(rows))


def law_seconds(points: Points) -> NDArray[np.float64]:
    """Return a law that all methods can learn: a launch, and twice the datasheet's roofline."""
    return 10e-6 + 2 * ideal_seconds(points)
