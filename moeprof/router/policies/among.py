"""The answer of a token that may use some of the experts only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from moeprof.gate.rule import Routing
from moeprof.router.policies.ranking import NEVER

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import GateRule
    from moeprof.router.policies.ranking import Ranking

_SHARED: Final = 0.75  # between a half, the most that a repeated expert has of a norm, and all


def route_among(logits: Tensor, rule: GateRule, ranking: Ranking, usable: Tensor) -> Routing:
    """Return every token's best top_k of the `usable` experts, [num_tokens or 1, num_experts].

    Weights are those that the model would give the experts that are used, which may be fewer than
    top_k. A token whose experts are the model's own keeps the model's answer bit for bit. A token
    without any usable expert has weight 0 in all slots, which name its best expert.
    """
    best = ranking.keys.masked_fill(~usable, NEVER).topk(rule.top_k, dim=-1)
    used = best.values != NEVER
    favourite = ranking.keys.argmax(dim=-1, keepdim=True)
    first = torch.where(used[:, :1], best.indices[:, :1], favourite)
    experts = torch.where(used, best.indices, first)
    weights = _weights_of_used(logits, rule, experts, used)
    plain = ranking.plain
    untouched = (used & ranking.own.gather(-1, experts)).all(dim=-1, keepdim=True)
    return Routing(
        torch.where(untouched, plain.experts, experts),
        torch.where(untouched, plain.weights, weights),
    )


def _weights_of_used(logits: Tensor, rule: GateRule, experts: Tensor, used: Tensor) -> Tensor:
    """Return weights, [num_tokens, top_k], of which those of unused slots are 0 and in no norm.

    Slots that are not used repeat the first expert. Where the family divides by the sum, that
    expert has then at most half of what it has alone; where it does not, exactly as much.
    """
    given = rule.weights(logits, experts)
    alone = rule.weights(logits, experts[:, :1]).float()
    kept = given.float().masked_fill(~used, 0.0)
    normalised = given[:, :1].float() < _SHARED * alone
    partly = used.any(dim=-1, keepdim=True) & ~used.all(dim=-1, keepdim=True)
    scale = torch.where(normalised & partly, alone / kept.sum(dim=-1, keepdim=True), 1.0)
    return (kept * scale).to(given.dtype)
