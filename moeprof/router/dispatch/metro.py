"""METRO: the dispatcher that balances active experts rather than rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.router.dispatch.count import rows_of_experts
from moeprof.router.dispatch.replicas import replicas_of

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True)
class Metro:
    """Activates one replica of each expert in use, on the rank with the fewest active so far.

    Algorithm 1 of arXiv:2512.09277. Its threads, one per expert, lock an expert's ranks, choose and
    unlock; which comes first is left open, and here is set: experts on one rank, which have no
    choice, then by rising number of ranks and expert. Experts without a common rank choose at
    the same time, as there, so the loop is over groups of experts (`Replicas.waves`). Ties go to
    the lower rank. What is lost to the optimum is no more than 10.9 % in the paper's measurements,
    not in the worst case; `fewest_active_experts` tells.
    """

    def dispatch(self, routing: Routing, context: RoutingContext) -> Tensor:
        """Return the rank of every slot, [num_tokens, top_k]; raises what a dispatcher raises."""
        replicas = replicas_of(context, "metro", routing)
        rows = rows_of_experts(routing.experts, replicas.num_experts, routing.weights)
        in_use = (rows > 0).to(rows.dtype)
        home = replicas.ranks[:, 0].clone()
        active = rows.new_zeros(replicas.num_ranks)
        active.index_add_(0, home[replicas.sole], in_use[replicas.sole])
        for experts in replicas.waves:
            candidates = replicas.ranks[experts]
            chosen = candidates.gather(1, active[candidates].argmin(dim=1, keepdim=True)).squeeze(1)
            active.index_add_(0, chosen, in_use[experts])
            home.index_copy_(0, experts, chosen)
        return home[routing.experts]
