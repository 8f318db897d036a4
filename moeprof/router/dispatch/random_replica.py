"""The dispatcher that draws a replica for every row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from moeprof.errors import WorkloadError
from moeprof.router.dispatch.replicas import replicas_of
from moeprof.router.dispatch.unused import follow_used

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext

# Divided by any number of replicas, the rest is even to one part in 10^16.
_MANY = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class RandomReplica:
    """Draws one of the expert's replicas for each slot, each as likely as another.

    SGLang's `--ep-dispatch-algorithm dynamic` draws so (python/sglang/srt/eplb/
    expert_location_dispatch.py). vLLM has the same in mind without chance: a hash of the token's
    place in the batch, modulo the number of replicas (fused_moe/router/base_router.py).
    """

    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    """Of the device that tokens are on; it moves on with every batch. Without one, a new CPU
    generator seeded with 0."""

    def dispatch(self, routing: Routing, context: RoutingContext) -> Tensor:
        """Return the rank of every slot, [num_tokens, top_k].

        Raises WorkloadError: as a dispatcher does, or the generator is of another device.
        """
        experts = routing.experts
        if self.generator.device.type != experts.device.type:
            raise WorkloadError(
                f"dispatcher random: generator must be of {experts.device}, "
                f"got one of {self.generator.device}",
                hint=f"Make it with torch.Generator('{experts.device}').manual_seed(0).",
            )
        replicas = replicas_of(context, "random", routing)
        drawn = torch.randint(_MANY, experts.shape, generator=self.generator, device=experts.device)
        chosen = (drawn % replicas.counts[experts]).unsqueeze(-1)
        return follow_used(replicas.ranks[experts].gather(-1, chosen).squeeze(-1), routing)
