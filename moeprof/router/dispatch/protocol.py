"""The role of a dispatcher: which replica, that is which rank, computes each slot of a routing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


class Dispatcher(Protocol):
    """A policy of replica choice; experts and weights stay as routed, so its claims are exact."""

    def dispatch(self, routing: Routing, context: RoutingContext) -> Tensor:
        """Return the rank of every slot, [num_tokens, top_k], int64, one that holds its expert.

        A slot that is not to be used (weight 0) follows the slot that its token does use the same
        expert in, so that it activates nothing.

        Raises WorkloadError: the context has no placement, or one of other experts.
        """
