"""The optimum that METRO comes near: the fewest active experts that the busiest rank can have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from moeprof.workload.placement import Placement


def fewest_active_experts(experts_in_use: Iterable[int], placement: Placement) -> int:
    """Return the least possible maximum over ranks of active experts, one replica per expert.

    Section IV-B of arXiv:2512.09277: whether no rank need have more than n is a maximum flow from
    experts, one each, over the ranks that hold them, n each; the least such n is found by
    bisection. Several replicas of one expert never help (Lemma 1 there). For tests and reports:
    it runs on the host. Every expert in use must be in the placement.
    """
    homes = [
        [rank for rank, experts in enumerate(placement.ranks) if expert in experts]
        for expert in sorted(set(experts_in_use))
    ]
    assert all(homes), "an expert in use is on no rank"
    least = -(-len(homes) // placement.num_ranks)
    most = len(homes)
    while least < most:
        tried = (least + most) // 2
        if _all_fit(homes, placement.num_ranks, tried):
            most = tried
        else:
            least = tried + 1
    return most


def _all_fit(homes: Sequence[Sequence[int]], num_ranks: int, most: int) -> bool:
    num_experts = len(homes)
    sink = 1 + num_experts + num_ranks
    capacity = np.zeros((sink + 1, sink + 1), dtype=np.int32)
    capacity[0, 1 : 1 + num_experts] = 1
    capacity[1 + num_experts : sink, sink] = most
    for expert, ranks in enumerate(homes):
        capacity[1 + expert, 1 + num_experts + np.array(ranks)] = 1
    return bool(maximum_flow(csr_array(capacity), 0, sink).flow_value == num_experts)
