"""The dispatcher that balances rows: each expert's go to its least loaded rank."""

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
class LeastLoaded:
    """Sends all rows of an expert to the one of its ranks with the fewest rows so far.

    Experts on one rank have no choice and go first; then the others, the most rows first, which is
    list scheduling by longest processing time (R. L. Graham, SIAM J. Appl. Math. 17, 1969, pages
    416-429) on machines that not every job may run on. Ties go to the lower expert and rank.
    One after another by nature: a loop over the experts on several ranks, none over tokens.
    """

    def dispatch(self, routing: Routing, context: RoutingContext) -> Tensor:
        """Return the rank of every slot, [num_tokens, top_k]; raises what a dispatcher raises."""
        replicas = replicas_of(context, "least-loaded", routing)
        rows = rows_of_experts(routing.experts, replicas.num_experts, routing.weights)
        home = replicas.ranks[:, 0].clone()
        load = rows.new_zeros(replicas.num_ranks)
        load.index_add_(0, home[replicas.sole], rows[replicas.sole])
        heaviest = rows[replicas.contested].argsort(descending=True, stable=True)
        ordered = replicas.contested[heaviest]
        for place in range(len(ordered)):
            expert = ordered[place : place + 1]
            candidates = replicas.ranks[expert].squeeze(0)
            chosen = candidates[load[candidates].argmin(dim=0, keepdim=True)]
            load.index_add_(0, chosen, rows[expert])
            home.index_copy_(0, expert, chosen)
        return home[routing.experts]
