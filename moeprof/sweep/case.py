"""A case: one combination of a recipe's choices, and the workloads that it puts on the ranks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from moeprof.workload.dtypes import activation_dtype
from moeprof.workload.placement import place, rows_per_rank
from moeprof.workload.routing import draw, rows_per_expert
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moeprof.recipe.schema import PlacementSection
    from moeprof.workload.layer import MoELayer
    from moeprof.workload.placement import Placement
    from moeprof.workload.routing import Pattern

# EPLB needs expert loads; it gets those of an earlier batch of the same pattern, this large.
LOAD_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Case:
    """One layer, kernel, dtype, batch, pattern and placement at one held temperature."""

    layer: MoELayer
    kernel: str
    dtype: str
    batch_size: int
    pattern: Pattern
    placement: PlacementSection
    hold_celsius: float | None
    l2_state: str

    @property
    def ep_size(self) -> int:
        """The ranks that this case has a point for."""
        return self.placement.num_ranks


@dataclass(frozen=True, slots=True)
class RankGroup:
    """The ranks on which a case puts one and the same rows: measured once, recorded for each."""

    ranks: tuple[int, ...]
    workload: Workload  # as the first of the ranks has it


def workload_on_rank(case: Case, rank: int, rows: tuple[int, ...], *, seed: int) -> Workload:
    """Return what `rank` computes when its expert slots have `rows[num_local_slots]`."""
    return Workload(
        model=case.layer.name,
        layer=case.layer,
        weight_dtype=case.dtype,
        activation_dtype=activation_dtype(case.dtype),
        batch_size=case.batch_size,
        routing_pattern=str(case.pattern),
        routing_seed=seed,
        placement=str(case.placement),
        ep_size=case.placement.num_ranks,
        ep_rank=rank,
        tp_size=case.placement.tp_size,
        rows_per_expert=rows,
    )


def rank_groups(case: Case, *, seed: int) -> tuple[RankGroup, ...]:
    """Draw the batch and return the distinct workloads of the ranks.

    Raises WorkloadError where pattern and placement are impossible for the layer and batch.
    """
    ranks_by_rows: dict[tuple[int, ...], list[int]] = {}
    for rank, rows in enumerate(_rows(case, seed)):
        ranks_by_rows.setdefault(rows, []).append(rank)
    return tuple(
        RankGroup(tuple(ranks), workload_on_rank(case, ranks[0], rows, seed=seed))
        for rows, ranks in ranks_by_rows.items()
    )


def _rows(case: Case, seed: int) -> tuple[tuple[int, ...], ...]:
    layer = case.layer
    ids = _draw(case.pattern, case.batch_size, layer.num_experts, layer.top_k, seed)
    placement = _place(case.placement, case.pattern, layer.num_experts, layer.top_k, seed)
    return tuple(tuple(rows.tolist()) for rows in rows_per_rank(ids, placement))


@lru_cache(maxsize=4096)
def _draw(
    pattern: Pattern, num_tokens: int, num_experts: int, top_k: int, seed: int
) -> NDArray[np.int64]:
    return draw(pattern, num_tokens=num_tokens, num_experts=num_experts, top_k=top_k, seed=seed)


@lru_cache(maxsize=256)
def _place(
    section: PlacementSection, pattern: Pattern, num_experts: int, top_k: int, seed: int
) -> Placement:
    loads = None
    if section.strategy == "eplb":
        loads = rows_per_expert(_draw(pattern, LOAD_TOKENS, num_experts, top_k, seed), num_experts)
    return place(
        section.strategy,
        num_experts=num_experts,
        num_ranks=section.num_ranks,
        seed=seed,
        loads=loads,
        num_replicas=section.num_replicas,
        num_nodes=section.num_nodes,
        num_groups=section.num_groups,
    )
