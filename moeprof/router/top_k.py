"""The router that every model comes with: its own top k."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


class TopK:
    """Chooses what the model itself would, bit for bit."""

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return the model's own choice for `logits`, [num_tokens, num_experts]."""
        return context.rule.choose(logits)
