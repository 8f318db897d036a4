"""In what order a token likes its experts, with no tie left open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import GateRule, Routing

NEVER: Final = torch.iinfo(torch.int64).min
"""The key of what must not be chosen."""
_INDEX_BITS: Final = 20
_FAVOUR_BIT: Final = 1 << _INDEX_BITS


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """A batch as its gate sees it; tensors are [num_tokens, num_experts]."""

    plain: Routing
    """The model's own choice."""
    own: Tensor
    """Which experts the model itself would use, bool."""
    allowed: Tensor
    """Which experts the family does not forbid, bool."""
    keys: Tensor
    """Greater is liked better, int64, no two of a token alike; `NEVER` where forbidden."""


def rank(logits: Tensor, rule: GateRule) -> Ranking:
    """Return how a batch likes its experts; `logits`, [num_tokens, num_experts].

    By preference. Of equal ones the model's own choice goes first, so that nothing changes for no
    reason, then the lower index.
    """
    preferences = rule.preferences(logits)
    plain = rule.choose(logits)
    own = mask_of(plain.experts, rule.num_experts)
    # Not a comparison: what is not a number is the model's fault, to be shown and not hidden.
    allowed = preferences != float("-inf")
    keys = order_keys(preferences, own).masked_fill(~allowed, NEVER)
    return Ranking(plain, own, allowed, keys)


def order_keys(values: Tensor, favoured: Tensor | None = None) -> Tensor:
    """Return int64 keys in the order of `values`, [rows, columns], all different within a row.

    Of equal values the favoured go first, [rows, columns], bool; then the lower column.
    """
    # The bits of a float order as those of an integer do, but for the sign; 0.0 makes -0 a 0.
    bits = (values.float() + 0.0).view(torch.int32)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    num_columns = values.shape[-1]
    backwards = torch.arange(num_columns - 1, -1, -1, device=values.device)
    keys = ordered * (2 * _FAVOUR_BIT) + backwards
    return keys if favoured is None else keys + favoured * _FAVOUR_BIT


def mask_of(experts: Tensor, num_experts: int) -> Tensor:
    """Return which experts stand in `experts`, [num_tokens, k], as [num_tokens, num_experts]."""
    mask = torch.zeros(len(experts), num_experts, dtype=torch.bool, device=experts.device)
    return mask.scatter(-1, experts, value=True)


def best_mask(keys: Tensor, num_best: int) -> Tensor:
    """Return where the greatest keys of every row are, bool, in the shape of `keys`."""
    return mask_of(keys.topk(num_best, dim=-1).indices, keys.shape[-1])
