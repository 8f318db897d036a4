"""Experts by lot: the negative control of every comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from moeprof.router.policies.among import route_among
from moeprof.router.policies.ranking import NEVER, best_mask, order_keys, rank

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@dataclass(frozen=True, slots=True, eq=False)
class RandomExperts:
    """Gives every token top_k experts, each set of allowed ones equally likely.

    Numbers are drawn where the generator is, so that one on the CPU gives the same experts on any
    device; a CUDA graph needs one of that GPU, registered with the graph.
    """

    generator: torch.Generator = field(default_factory=_seeded)

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return drawn experts with the model's weights; `logits`, [num_tokens, num_experts]."""
        ranking = rank(logits, context.rule)
        lots = torch.rand(logits.shape, generator=self.generator, device=self.generator.device)
        keys = order_keys(lots.to(logits.device)).masked_fill(~ranking.allowed, NEVER)
        return route_among(logits, context.rule, ranking, best_mask(keys, context.rule.top_k))
