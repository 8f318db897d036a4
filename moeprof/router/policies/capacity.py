"""How many tokens an expert takes, and which of those that want it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from moeprof.router.policies.ranking import NEVER, order_keys

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import GateRule


def capacity_of(num_tokens: int, rule: GateRule, capacity_factor: float) -> int:
    """Return the tokens that an expert takes: the factor times its mean load, rounded up.

    Source: He et al., arXiv:2503.05066, factor x tokens x top_k / experts; rounding up, and at
    least 1, as in the authors' repository.
    """
    mean = num_tokens * rule.top_k / rule.num_experts
    bound = capacity_factor * mean
    return max(1, math.ceil(bound)) if bound < num_tokens else max(1, num_tokens)


def admit(wishes: Tensor, scores: Tensor, room: Tensor) -> Tensor:
    """Return which of the `wishes` are granted, bool, [num_tokens, num_experts].

    Every expert takes the tokens of the highest `scores`, [num_tokens, num_experts], while it has
    `room`, [num_experts]; of equal scores the earlier token.
    """
    wanted = wishes.T
    queue = order_keys(scores.T).masked_fill(~wanted, NEVER).argsort(dim=-1, descending=True)
    in_time = torch.arange(len(wishes), device=wishes.device) < room.unsqueeze(-1)
    return (torch.zeros_like(wanted).scatter(-1, queue, in_time) & wanted).T
