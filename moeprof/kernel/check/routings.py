"""The layers and routings that kernels are checked with: those that kernels get wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.kernel.check.case import Case
from moeprof.workload.dtypes import activation_dtype
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

# Rows beyond a tile of 128, and one beyond a tile of 64: the largest that kernels are built with.
_BEYOND_A_TILE: Final = (130, 65)
_HOT_ROWS: Final = 40
_RANDOM_BATCHES: Final = (1, 4, 16)
_NUM_RANDOM_THOROUGH: Final = 24
_LARGEST_RANDOM_BATCH: Final = 64
# A CPU takes a second for the float64 of a larger expert.
_CPU_WEIGHTS_MAX: Final = 2**25
# By name: a small layer, odd multiples of 64 and of 128, and layers of the catalogue (gpt-oss,
# Qwen3-30B-A3B, DeepSeek-V3, Mixtral) with few of their experts.
_SMALL: Final = (
    MoELayer("small", 256, 128, num_experts=8, top_k=2),
    MoELayer("odd multiples of 64", 320, 192, num_experts=6, top_k=3),
    MoELayer("odd multiples of 128", 640, 384, num_experts=5, top_k=1),
)
_LARGE: Final = (
    MoELayer("gpt-oss, 4 experts", 2880, 2880, num_experts=4, top_k=4),
    MoELayer("deepseek-v3, 8 experts", 7168, 2048, num_experts=8, top_k=8),
)
_THOROUGH: Final = (
    MoELayer("qwen3-30b-a3b, 16 experts", 2048, 768, num_experts=16, top_k=8),
    MoELayer("mixtral-8x7b, 2 experts", 4096, 14336, num_experts=2, top_k=2),
)


@dataclass(frozen=True, slots=True)
class Routing:
    """Rows of each local expert, and how many tokens the batch has."""

    name: str
    rows_per_expert: tuple[int, ...]
    batch_size: int


def cases(dtype: str, *, kind: str, seed: int, thorough: bool) -> Iterator[Case]:
    """Yield every case of one dtype for a device of a kind; small layers only on a CPU."""
    layers = [*_SMALL]
    if thorough or kind != "cpu":
        layers += _LARGE
    if thorough:
        layers += _THOROUGH
    for layer in layers:
        if kind == "cpu" and layer.weights_per_expert > _CPU_WEIGHTS_MAX:
            continue
        for index, routing in enumerate(routings(layer, seed=seed, thorough=thorough)):
            yield Case(
                routing=routing.name,
                workload=_workload(layer, routing, dtype),
                l2_state="cold" if index % 2 == 0 else "warm",
                captured=index == 0,
            )


def routings(layer: MoELayer, *, seed: int, thorough: bool) -> Iterator[Routing]:
    """Yield named routings of a layer; random ones are drawn from `seed`."""
    num, top_k = layer.num_experts, layer.top_k
    rng = np.random.default_rng([seed, layer.hidden_size, layer.expert_size])
    batches = list(_RANDOM_BATCHES)
    if thorough:
        batches += rng.integers(1, _LARGEST_RANDOM_BATCH + 1, _NUM_RANDOM_THOROUGH).tolist()
    for batch_size in batches:
        chosen = [rng.permutation(num)[:top_k] for _ in range(batch_size)]
        rows = np.bincount(np.concatenate(chosen), minlength=num)
        yield Routing("random", tuple(rows.tolist()), batch_size)
    middle = num // 2
    for name, rows_by_expert in (
        ("empty experts", {middle: 2, num - 1: 1}),
        ("hot", dict.fromkeys(range(num), 1) | {middle: _HOT_ROWS}),
        ("all on one", {num // 3: 17}),
        ("all on the last", {num - 1: 2}),
        ("one row", {0: 1}),
        ("more rows than a tile", {0: _BEYOND_A_TILE[0], num - 1: _BEYOND_A_TILE[1]}),
    ):
        counts = tuple(rows_by_expert.get(expert, 0) for expert in range(num))
        yield Routing(name, counts, max(counts))
    # Three of the layer's experts, or one; some tokens have no row here.
    yield Routing("partial rank", (2, 0, 1)[: max(1, num // 2)], 4)


def _workload(layer: MoELayer, routing: Routing, dtype: str) -> Workload:
    return Workload(
        model=layer.name,
        layer=layer,
        weight_dtype=dtype,
        activation_dtype=activation_dtype(dtype),
        batch_size=routing.batch_size,
        routing_pattern=routing.name,
        routing_seed=0,
        placement="contiguous",
        ep_size=1 if len(routing.rows_per_expert) == layer.num_experts else 2,
        ep_rank=0,
        tp_size=1,
        rows_per_expert=routing.rows_per_expert,
    )
