"""How far a router's decisions are from plain top-k's, added up decision by decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from moeprof.errors import InputError
from moeprof.evaluation.sums import SumsByRequest, check_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.evaluation.sums import RequestSums
    from moeprof.gate.rule import GateRule, Routing

RETAINED_MASS: Final = "retained gate mass"
CHANGED: Final = "selections changed"
TOP_1_KEPT: Final = "top-1 expert kept"


class RoutingComparison:
    """Adds up what a router changes, over layers and tokens; memory grows with requests only.

    One decision is one token at one layer. Decisions are compared with decisions on the same
    logits: what a change does to later layers shows in the outputs.
    """

    def __init__(self) -> None:
        self._sums = SumsByRequest((RETAINED_MASS, CHANGED, TOP_1_KEPT))

    def add(
        self,
        *,
        requests: Tensor,
        logits: Tensor,
        rule: GateRule,
        plain: Routing,
        routed: Routing,
        mask: Tensor | None = None,
    ) -> None:
        """Add the decisions of one layer for tokens of any requests.

        `requests` is [num_tokens], `logits` [num_tokens, num_experts]; the two routings may differ
        in k; `mask`, [num_tokens], is False for padding. A slot that is not used repeats an expert
        and so counts for nothing. Raises InputError, with nothing added: a logit is not finite, an
        expert does not exist, or shapes do not go together.
        """
        check_tokens(
            requests,
            logits=logits,
            plain_experts=plain.experts,
            routed_experts=routed.experts,
            mask=mask,
        )
        if logits.shape[-1] != rule.num_experts:
            raise InputError(
                f"logits: must be of {rule.num_experts} experts as the rule is, "
                f"got {logits.shape[-1]}"
            )
        rows = slice(None) if mask is None else mask.bool().nonzero().flatten()
        logits = logits[rows]
        if not bool(logits.isfinite().all()):
            raise InputError(
                "gate logits: must be finite, found NaN or infinity",
                hint="Run the model in float32, or look for damaged weights.",
            )
        plain_used = _used("plain top-k", plain.experts[rows], rule.num_experts)
        routed_used = _used("the router", routed.experts[rows], rule.num_experts)
        scores = rule.scores(logits).double()
        self._sums.add(
            requests[rows],
            {
                RETAINED_MASS: _retained(scores, plain_used, routed_used),
                CHANGED: _changed(plain_used, routed_used),
                TOP_1_KEPT: _top_1_kept(scores, plain_used, routed_used),
            },
        )

    def sums(self) -> RequestSums:
        """Return the sums of everything that has been added; its tokens are decisions."""
        return self._sums.so_far()


def _used(whose: str, experts: Tensor, num_experts: int) -> Tensor:
    """Return which experts each token uses, bool, [num_tokens, num_experts]."""
    outside = experts[(experts < 0) | (experts >= num_experts)]
    if len(outside) > 0:
        raise InputError(
            f"experts of {whose}: must lie in 0..{num_experts - 1}, found {int(outside[0])}"
        )
    used = torch.zeros(len(experts), num_experts, dtype=torch.bool, device=experts.device)
    return used.scatter_(-1, experts.long(), True)


def _retained(scores: Tensor, plain: Tensor, routed: Tensor) -> Tensor:
    """Return the chosen experts' scores over those of plain top-k, [num_tokens].

    Above 1 where a balancing bias keeps plain top-k from the experts of the highest scores.
    """
    mass = (scores * plain).sum(dim=-1)
    # Scores so small that they are all 0 have nothing to lose.
    return torch.where(mass > 0, (scores * routed).sum(dim=-1) / mass, 1.0)


def _changed(plain: Tensor, routed: Tensor) -> Tensor:
    """Return the share of selections that differ, [num_tokens].

    An expert replaced, dropped or added is one change; the larger selection is the whole.
    """
    lost, added = (plain & ~routed).sum(dim=-1), (routed & ~plain).sum(dim=-1)
    whole = torch.maximum(plain.sum(dim=-1), routed.sum(dim=-1))
    return torch.maximum(lost, added).double() / whole


def _top_1_kept(scores: Tensor, plain: Tensor, routed: Tensor) -> Tensor:
    """Return 1.0 where plain top-k's expert of the highest score is still used, [num_tokens]."""
    best = scores.masked_fill(~plain, -1.0).argmax(dim=-1, keepdim=True)
    return routed.gather(-1, best).squeeze(-1).double()
