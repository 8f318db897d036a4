"""Capacity-aware token drop: an expert with too many tokens drops the weakest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moeprof.router.policies.among import route_among
from moeprof.router.policies.capacity import admit, capacity_of
from moeprof.router.policies.knobs import check_knob
from moeprof.router.policies.ranking import rank

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True)
class CapacityDrop:
    """Keeps the highest scores of an over-full expert; the other tokens go without it.

    Source: He et al., arXiv:2503.05066, token drop by score, and its repository
    CASE-Lab-UMD/Capacity-Aware-MoE: weights of what is left are normalised where the family
    normalises, and are as they were where it does not. A token may lose every expert; its slots
    then have weight 0 and name its best one, which is over-full and so active anyway. The authors
    limit prompts and not single decoded tokens; here a decode step's batch is what is limited.
    """

    capacity_factor: float = math.inf
    """Tokens that an expert takes, over the mean of all experts; infinity is plain top-k."""

    def __post_init__(self) -> None:
        """Raise WorkloadError: a factor that is negative or not a number."""
        check_knob("capacity-drop", "capacity_factor", self.capacity_factor, least=0.0)

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return top-k less what was dropped; `logits`, [num_tokens, num_experts]."""
        rule = context.rule
        ranking = rank(logits, rule)
        capacity = capacity_of(len(logits), rule, self.capacity_factor)
        room = torch.full((rule.num_experts,), capacity, device=logits.device)
        kept = admit(ranking.own, rule.scores(logits), room)
        return route_among(logits, rule, ranking, kept)
