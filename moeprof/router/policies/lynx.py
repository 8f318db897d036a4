"""Lynx: experts that confident tokens want, for all the others too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moeprof.router.policies.among import route_among
from moeprof.router.policies.knobs import check_knob, check_whole
from moeprof.router.policies.ranking import best_mask, rank
from moeprof.router.policies.shortlist import or_own_best, shortlist

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.policies.ranking import Ranking
    from moeprof.router.protocol import RoutingContext

_LEAST_BINS = 2  # confidence needs a better and a worse


@dataclass(frozen=True, slots=True)
class ConfidentExperts:
    """Keeps the experts of the highest confidence score; slots of the others are remapped.

    Source: Gupta et al., arXiv:2411.08982 (third version). A token's choice falls into bin
    floor(gap / width), at most 0, where the gap is its logit less the token's greatest; it counts
    num_tokens ** bin towards its expert, so one token's near choice outweighs a batch of choices
    a bin further. Slots of experts not kept go to the token's best kept ones, and k stays k.

    Followed from its abstract and published notes on it, not from its text. Ours, where those leave
    it open: the number of experts kept is a knob, where the paper reads it off the scores; width
    and number of bins are knobs, where it derives them from top_k / num_experts; a token is
    confident, so that its best expert is not remapped, when its second best lies in the last bin; a
    token that may use none of the kept, as under group limits, has its best one; a batch of one
    token counts as two, lest all score the same.
    """

    num_experts_kept: int | None = None
    """Experts that the batch may activate; None is all of them, which is plain top-k."""
    bin_width_nats: float = 1.0
    """How much less a logit is, bin by bin; a difference of logits is a log ratio of scores."""
    num_bins: int = 6

    def __post_init__(self) -> None:
        """Raise WorkloadError: no experts, bins without width, or fewer than two bins."""
        check_whole("lynx", "num_experts_kept", self.num_experts_kept, least=1)
        check_knob("lynx", "bin_width_nats", self.bin_width_nats, least=1e-6)
        check_whole("lynx", "num_bins", self.num_bins, least=_LEAST_BINS)

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return the best of the kept experts; `logits`, [num_tokens, num_experts].

        Raises WorkloadError: more experts to keep than the model has.
        """
        rule = context.rule
        check_whole(
            "lynx", "num_experts_kept", self.num_experts_kept, least=1, most=rule.num_experts
        )
        ranking = rank(logits, rule)
        bins = self._bins(logits, ranking)
        base = float(max(2, len(logits)))
        votes = torch.where(ranking.own, torch.pow(base, bins), 0.0).sum(dim=0)
        kept = shortlist(votes, self.num_experts_kept or rule.num_experts)
        favourite = best_mask(ranking.keys, 1)
        rest = bins.masked_fill(favourite, float("-inf")).amax(dim=-1, keepdim=True)
        confident = rest <= 1 - self.num_bins
        usable = or_own_best(kept, ranking) | (favourite & confident)
        return route_among(logits, rule, ranking, usable)

    def _bins(self, logits: Tensor, ranking: Ranking) -> Tensor:
        """Return the bin of every allowed expert, float64, [num_tokens, num_experts]."""
        heard = logits.double().masked_fill(~ranking.allowed, float("-inf"))
        gap = heard - heard.amax(dim=-1, keepdim=True)
        return (gap / self.bin_width_nats).floor().clamp(1 - self.num_bins, 0)
