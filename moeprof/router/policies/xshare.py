"""XShare: the experts on which a batch's gate mass lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.router.policies.among import route_among
from moeprof.router.policies.knobs import check_whole
from moeprof.router.policies.ranking import best_mask, rank
from moeprof.router.policies.shortlist import or_own_best, shortlist

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True)
class SharedExperts:
    """Keeps the experts with most gate mass in the batch; tokens take their best of those.

    Source: Vankov et al., arXiv:2602.07265, by published notes on it: the sum of scores over the
    batch is modular, so the greatest sums are the best set of a given size; every token's best
    expert is kept first. Those count towards the size, and stay where they alone exceed it. The
    scores are the family's own, not normalised for sigmoids; what a family forbids a token adds
    nothing, and a token that may use none of the kept has its best one. Without protection this is
    the rule that vLLM's pull request 35551 describes.
    """

    num_experts_kept: int | None = None
    """Experts that the batch may activate; None is all of them, which is plain top-k."""
    num_protected: int = 1
    """Best experts of every token that are kept whatever the batch thinks of them."""

    def __post_init__(self) -> None:
        """Raise WorkloadError: a number of experts that is impossible."""
        check_whole("xshare", "num_experts_kept", self.num_experts_kept, least=1)
        check_whole("xshare", "num_protected", self.num_protected, least=0)

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return the best of the kept experts; `logits`, [num_tokens, num_experts].

        Raises WorkloadError: more experts to keep, or to protect, than the model has or uses.
        """
        rule = context.rule
        check_whole(
            "xshare", "num_experts_kept", self.num_experts_kept, least=1, most=rule.num_experts
        )
        check_whole("xshare", "num_protected", self.num_protected, least=0, most=rule.top_k)
        ranking = rank(logits, rule)
        scores = rule.scores(logits).double().masked_fill(~ranking.allowed, 0.0)
        protected = best_mask(ranking.keys, self.num_protected).any(dim=0)
        mass = scores.sum(dim=0).masked_fill(protected, float("inf"))
        kept = shortlist(mass, self.num_experts_kept or rule.num_experts) | protected
        return route_among(logits, rule, ranking, or_own_best(kept, ranking))
