"""Slots that are not to be used follow the slot that uses their expert."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing


def follow_used(ranks: Tensor, routing: Routing) -> Tensor:
    """Return `ranks`, [num_tokens, top_k], with each unused slot on the rank of its expert's used.

    Where a token uses no slot of that expert, its unused slots stay where they are.
    """
    used = (routing.weights != 0).unsqueeze(1)
    twins = (routing.experts.unsqueeze(2) == routing.experts.unsqueeze(1)) & used
    leader = twins.to(ranks.dtype).argmax(dim=2)
    return ranks.gather(1, leader).where(twins.any(dim=2), ranks)
