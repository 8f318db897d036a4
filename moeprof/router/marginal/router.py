"""The bundled router: tokens use the experts whose gate mass is worth what they cost the step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch

from moeprof.router.marginal.answer import best_of
from moeprof.router.marginal.buffers import Buffers
from moeprof.router.marginal.conditions import Conditions
from moeprof.router.marginal.curve import EXPERTS_ONLY, StepCurve
from moeprof.router.marginal.homes import expert_work, homes_of
from moeprof.router.marginal.levels import Trade, worth_keeping
from moeprof.router.marginal.worth import candidate_scores, worth_of
from moeprof.router.policies.knobs import check_knob, check_whole

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import GateRule, Routing
    from moeprof.router.marginal.worth import Worth
    from moeprof.router.protocol import RoutingContext

_MORE: Final = 8  # candidates beyond the top k, where that is small


@dataclass(frozen=True, slots=True, eq=False)
class MarginalCost:
    """Keeps the experts that are worth their marginal cost; tokens take their best of those.

    An expert costs its weights once, whoever uses it, so what counts is the gate mass that all
    tokens together would lose without it (`worth_of`) against what it adds to the slowest rank's
    seconds, or to joules, as a share of the plain top-k step (`worth_keeping`). lambda is therefore
    unitless: 0.2 gives up to 0.2 of a token's gate mass for a step that takes no time. It is 0 by
    default, which is plain top-k.

    The answer's tensors are written over by the next call for the same layer and number of tokens,
    and no gradient flows through them. Beyond what the gate's rule allocates itself, calls after
    the first of their kind allocate nothing.
    """

    lambda_: float = 0.0
    """Gate mass per step, as shares."""
    energy_fraction: float = 0.0
    """How much of cost is joules, the rest seconds."""
    num_protected: int = 1
    """Best experts of every token that are kept, whatever they cost; 0: the batch keeps the top_k
    that it would lose most without."""
    curve: StepCurve = EXPERTS_ONLY
    conditions: Conditions | None = None
    """What adaptation moves; its lambda then counts, not `lambda_`. None: equal GPUs."""
    _buffers: dict[torch.device, Buffers] = field(default_factory=dict, init=False, repr=False)
    _equal: dict[object, Conditions] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raise WorkloadError: a knob is out of range."""
        check_knob("marginal-cost", "lambda_", self.lambda_, least=0.0)
        check_knob("marginal-cost", "energy_fraction", self.energy_fraction, least=0.0, most=1.0)
        check_whole("marginal-cost", "num_protected", self.num_protected, least=0)

    @torch.no_grad()
    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return every token's best experts among those worth keeping.

        `logits`, [num_tokens, num_experts]. Without a placement all experts are on one rank.

        Raises WorkloadError: more protected experts than top_k, conditions of another number of
        ranks than the placement, or a placement of other experts.
        """
        rule = context.rule
        check_whole("marginal-cost", "num_protected", self.num_protected, least=0, most=rule.top_k)
        if (self.conditions is None and self.lambda_ == 0) or len(logits) == 0:
            return rule.choose(logits)
        judged = rule.judge(logits, num_candidates(rule))
        if logits.device not in self._buffers:
            self._buffers[logits.device] = Buffers(logits.device)
        buffers = self._buffers[logits.device]
        held = candidate_scores(judged, buffers)
        worth = worth_of(judged, held, self.num_protected, buffers)
        usable = self._usable(worth, len(logits), context, buffers)
        return best_of(
            judged, held, usable, buffers, renormalised=rule.renormalised, layer=context.layer
        )

    def _usable(
        self, worth: Worth, num_tokens: int, context: RoutingContext, buffers: Buffers
    ) -> Tensor:
        device, num_experts = worth.rows.device, len(worth.rows)
        if context.placement is None:
            conditions = self._conditions(1, device)
            home = buffers.constant(
                ("one rank", num_experts), lambda: torch.zeros(num_experts, dtype=torch.int64)
            )
            num_levels = num_experts
        else:
            homes = homes_of(context.placement, num_experts, device)
            conditions = self._conditions(homes.num_ranks, device)
            work = expert_work(worth.rows, self.curve, buffers("work", (num_experts,), torch.int64))
            home = homes.assign(work, conditions.slowness, self.curve.launch_experts)
            num_levels = homes.most_per_rank
        trade = Trade(conditions, self.curve, self.energy_fraction, num_levels, num_tokens)
        return worth_keeping(worth, home, trade, buffers)

    def _conditions(self, num_ranks: int, device: torch.device) -> Conditions:
        if self.conditions is None:
            key = (num_ranks, device)
            if key not in self._equal:
                self._equal[key] = Conditions.of(self.lambda_, num_ranks, device)
            return self._equal[key]
        return self.conditions.for_ranks(num_ranks, "router marginal-cost")


def num_candidates(rule: GateRule) -> int:
    """Return how many of a token's best experts are looked at: its top k, and as many and more.

    Beyond, there is hardly any gate mass; looking at all experts takes a second top-k of them.
    """
    return min(rule.num_experts, rule.top_k + max(rule.top_k, _MORE))
