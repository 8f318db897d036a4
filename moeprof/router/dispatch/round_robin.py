"""The dispatcher that deals the rows of each expert over its replicas in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moeprof.router.dispatch.count import rows_of_experts
from moeprof.router.dispatch.replicas import replicas_of
from moeprof.router.dispatch.unused import follow_used

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Sends row j of an expert with c replicas to replica j modulo c, in the order of tokens.

    The even split that EPLB plans for, and that METRO is compared with (arXiv:2512.09277,
    sections II-C and VI-A). Engines come near it without counting: see `RandomReplica`.
    """

    def dispatch(self, routing: Routing, context: RoutingContext) -> Tensor:
        """Return the rank of every slot, [num_tokens, top_k]; raises what a dispatcher raises."""
        replicas = replicas_of(context, "round-robin", routing)
        experts = routing.experts
        turn = _turns(routing, replicas.num_experts) % replicas.counts[experts]
        ranks = replicas.ranks[experts].gather(-1, turn.unsqueeze(-1)).squeeze(-1)
        return follow_used(ranks, routing)


def _turns(routing: Routing, num_experts: int) -> Tensor:
    """Return how many earlier rows each slot's expert has, [num_tokens, top_k]."""
    # Unused slots take no turn: they are counted as rows of an expert that there is not.
    ids = routing.experts.where(routing.weights != 0, num_experts).flatten()
    rows = rows_of_experts(ids, num_experts + 1)
    ordered, order = ids.sort(stable=True)
    first = (rows.cumsum(0) - rows)[ordered]
    turns = torch.empty_like(ids)
    turns[order] = torch.arange(len(ids), device=ids.device) - first
    return turns.view_as(routing.experts)
