"""Opportunistic Expert Activation: tokens ride on experts that others have activated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.router.policies.among import route_among
from moeprof.router.policies.knobs import check_whole
from moeprof.router.policies.ranking import best_mask, rank

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True)
class OpportunisticExperts:
    """Activates every token's best `base_k` experts, then fills its slots from those alone.

    Source: Oncescu et al., arXiv:2511.02237, algorithm 1 (the simplified form: a fixed base per
    token, candidates of any rank, at most top_k experts). Weights are normalised over the experts
    that are used where the family normalises.
    """

    base_k: int | None = None
    """Experts that a token has for sure, k0 in the paper; None is top_k, which is plain top-k."""

    def __post_init__(self) -> None:
        """Raise WorkloadError: a base of no experts."""
        check_whole("oea", "base_k", self.base_k, least=1)

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return every token's best experts of the base; `logits`, [num_tokens, num_experts].

        Raises WorkloadError: a base_k above the model's top_k.
        """
        rule = context.rule
        check_whole("oea", "base_k", self.base_k, least=1, most=rule.top_k)
        ranking = rank(logits, rule)
        base = best_mask(ranking.keys, self.base_k or rule.top_k)
        return route_among(logits, rule, ranking, base.any(dim=0, keepdim=True))
