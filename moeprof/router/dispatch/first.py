"""The dispatcher that knows no replicas: every row goes to its expert's first one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.router.dispatch.replicas import replicas_of

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True)
class First:
    """Chooses the replica on the lowest rank: what replicas are worth is judged against it."""

    def dispatch(self, routing: Routing, context: RoutingContext) -> Tensor:
        """Return the rank of every slot, [num_tokens, top_k]; raises what a dispatcher raises."""
        return replicas_of(context, "first", routing).ranks[:, 0][routing.experts]
