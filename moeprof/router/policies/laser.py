"""LASER: tokens that hardly care which expert they get take those with least to do."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from moeprof.router.policies.among import route_among
from moeprof.router.policies.knobs import check_knob, check_whole
from moeprof.router.policies.ranking import mask_of, rank

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.policies.ranking import Ranking
    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True)
class LeastLoadedExperts:
    """A token whose scores are peaked has its top-k; one with flat scores the least loaded.

    Source: Shahout et al., arXiv:2510.03293: peaked scores go to the strongest experts, flatter
    ones widen the set of viable experts, of which the least loaded serve.

    Followed from its abstract, not from its text, so that thresholds and load are ours: scores are
    peaked when the top-k hold a share of the token's score; viable is who has a share of the
    token's best score, and the top-k always. Load is the rows that an expert has of this batch and
    layer. Peaked tokens are counted first, then flat ones in rounds, in their order: those of a
    round see the load that earlier rounds left, and not each other. As many rounds as tokens is one
    token after the other. Of equal loads the preferred expert serves.
    """

    peaked_fraction: float = 0.0
    """Share of the scores that the top-k of a peaked token hold; 0 is plain top-k."""
    viable_fraction: float = 0.5
    """Score of a viable expert over the token's best."""
    num_rounds: int = 8

    def __post_init__(self) -> None:
        """Raise WorkloadError: a share outside 0..1, or no rounds."""
        check_knob("laser", "peaked_fraction", self.peaked_fraction, least=0.0, most=1.0)
        check_knob("laser", "viable_fraction", self.viable_fraction, least=0.0, most=1.0)
        check_whole("laser", "num_rounds", self.num_rounds, least=1)

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return top-k or the least loaded viable experts; `logits`, [num_tokens, num_experts]."""
        rule = context.rule
        ranking = rank(logits, rule)
        scores = rule.scores(logits).float().masked_fill(~ranking.allowed, 0.0)
        held = (scores * ranking.own).sum(dim=-1, keepdim=True) / scores.sum(dim=-1, keepdim=True)
        best = scores.amax(dim=-1, keepdim=True)
        viable = ranking.own | ((scores >= self.viable_fraction * best) & ranking.allowed)
        chosen = self._spread(ranking, viable, held < self.peaked_fraction, rule.top_k)
        return route_among(logits, rule, ranking, chosen)

    def _spread(self, ranking: Ranking, viable: Tensor, flat: Tensor, top_k: int) -> Tensor:
        """Return who serves whom, bool, [num_tokens, num_experts]; `flat`, [num_tokens, 1]."""
        num_tokens, num_experts = viable.shape
        order = ranking.keys.argsort(dim=-1, descending=True)
        in_order = viable.gather(-1, order)
        place = torch.arange(num_experts, device=order.device)
        busy = torch.iinfo(torch.int64).max
        load = (ranking.own & ~flat).sum(dim=0)
        served: list[Tensor] = []
        for rows in _rounds(num_tokens, self.num_rounds):
            wait = (load[order[rows]] * num_experts + place).masked_fill(~in_order[rows], busy)
            shortest = wait.topk(top_k, dim=-1, largest=False).indices
            least = mask_of(order[rows].gather(-1, shortest), num_experts)
            load = load + (least & flat[rows]).sum(dim=0)
            served.append(torch.where(flat[rows], least, ranking.own[rows]))
        return torch.cat(served)


def _rounds(num_tokens: int, num_rounds: int) -> list[slice]:
    num_rounds = max(1, min(num_rounds, num_tokens))
    borders = [num_tokens * index // num_rounds for index in range(num_rounds + 1)]
    return [slice(*border) for border in pairwise(borders)]
