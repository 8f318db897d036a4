"""The classic energy-aware router: a logit less what the expert costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.errors import WorkloadError
from moeprof.router.policies.among import route_among
from moeprof.router.policies.knobs import check_knob
from moeprof.router.policies.ranking import NEVER, best_mask, order_keys, rank

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True, eq=False)
class LogitPenalty:
    """Chooses by logit less λ times cost in units of the mean cost; weights are of true logits.

    Kept as the null result that it was: one GPU's power spread over all its experts is the same
    cost for each, and what all logits lose alike moves no choice, at any λ. Only what an expert
    costs beyond the cheapest is subtracted, the same choice in exact arithmetic, so that rounding
    cannot make a difference either. The family's own preferences are taken of the penalised logits;
    its limits, as of groups, are those of the true ones.
    """

    penalty_nats: float = 0.0
    """λ: what an expert of mean cost loses, in logits; 0 is plain top-k."""
    costs: Tensor | None = None
    """Per expert, [num_experts], in any one unit; None is the same for all."""

    def __post_init__(self) -> None:
        """Raise WorkloadError: a λ or cost that is negative, infinite or not a number."""
        check_knob("logit-penalty", "penalty_nats", self.penalty_nats, least=0.0, most=1e30)
        if self.costs is None:
            return
        if self.costs.dim() != 1:
            raise WorkloadError(
                f"router logit-penalty: costs must be [num_experts], got {list(self.costs.shape)}"
            )
        if not bool((self.costs.isfinite() & (self.costs >= 0)).all() & (self.costs.sum() > 0)):
            raise WorkloadError(
                "router logit-penalty: costs must be finite and at least 0, one of them more, "
                f"got {self.costs.tolist()}"
            )

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return the experts of the best penalised logits; `logits`, [num_tokens, num_experts].

        Raises WorkloadError: costs of another number of experts.
        """
        rule = context.rule
        if self.costs is None:
            return rule.choose(logits)
        if len(self.costs) != rule.num_experts:
            raise WorkloadError(
                f"router logit-penalty: costs must be of {rule.num_experts} experts, "
                f"got {len(self.costs)}"
            )
        costs = self.costs.to(logits.device).float()
        excess = (costs - costs.amin()) / costs.mean()
        ranking = rank(logits, rule)
        preferences = rule.preferences(logits.float() - self.penalty_nats * excess)
        keys = order_keys(preferences, ranking.own).masked_fill(~ranking.allowed, NEVER)
        return route_among(logits, rule, ranking, best_mask(keys, rule.top_k))
