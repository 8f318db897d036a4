"""Capacity-aware expanded drop: what an over-full expert drops may go to one with room."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moeprof.router.policies.among import route_among
from moeprof.router.policies.capacity import admit, capacity_of
from moeprof.router.policies.knobs import check_knob, check_whole
from moeprof.router.policies.ranking import mask_of, rank

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True)
class CapacityExpanded:
    """Lets tokens try their next experts before a slot is dropped.

    Source: He et al., arXiv:2503.05066, expanded drop: more candidates than top_k, and the same
    strict capacity for all.

    Ours: the extra candidates are a token's next ones anywhere, where the paper has those on the
    token's own GPU, which a router is not told; they take the place of dropped slots, one candidate
    in each round, into room that is left, and a token never uses more than top_k experts, where
    the authors' repository lets it use all that have room.
    """

    capacity_factor: float = math.inf
    """Tokens that an expert takes, over the mean of all experts; infinity is plain top-k."""
    num_extra_candidates: int = 4
    """Experts after the top-k that a token may try; 0 is capacity-drop."""

    def __post_init__(self) -> None:
        """Raise WorkloadError: a factor or number that is negative or not a number."""
        check_knob("capacity-expanded", "capacity_factor", self.capacity_factor, least=0.0)
        check_whole("capacity-expanded", "num_extra_candidates", self.num_extra_candidates, least=0)

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return the experts that had room for a token; `logits`, [num_tokens, num_experts]."""
        rule = context.rule
        ranking = rank(logits, rule)
        scores = rule.scores(logits)
        capacity = capacity_of(len(logits), rule, self.capacity_factor)
        room = torch.full((rule.num_experts,), capacity, device=logits.device)
        kept = admit(ranking.own, scores, room)
        num_candidates = min(rule.num_experts, rule.top_k + self.num_extra_candidates)
        candidates = ranking.keys.topk(num_candidates, dim=-1).indices
        for place in range(rule.top_k, num_candidates):
            next_best = mask_of(candidates[:, place : place + 1], rule.num_experts)
            missing = kept.sum(dim=-1, keepdim=True) < rule.top_k
            # Forbidden experts rank last: they take no room that was wanted, and are never used.
            kept = kept | admit(next_best & missing, scores, room - kept.sum(dim=0))
        return route_among(logits, rule, ranking, kept)
