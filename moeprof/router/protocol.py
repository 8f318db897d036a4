"""The role of a router: what it is shown, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.cost.model import CostModel
    from moeprof.gate.rule import GateRule, Routing
    from moeprof.router.telemetry import Telemetry
    from moeprof.workload.placement import Placement


@dataclass(frozen=True, slots=True)
class RoutingContext:
    """What a router may know beside the logits; None is what nobody told it."""

    layer: int
    """The index of the decoder layer in the model."""
    rule: GateRule
    placement: Placement | None = None
    cost: CostModel | None = None
    telemetry: Telemetry | None = None


class Router(Protocol):
    """A routing policy."""

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return the experts and weights of a batch; `logits`, [num_tokens, num_experts]."""
