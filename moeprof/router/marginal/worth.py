"""What a batch would lose without each of its experts, in whole parts of gate mass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Judged
    from moeprof.router.marginal.buffers import Buffers

WHOLE: Final = 1 << 30
"""A token's whole gate mass: integers add up alike in any order and on any device."""


@dataclass(frozen=True, slots=True, eq=False)
class Worth:
    """Of each expert, [num_experts].

    `loss`, int64, is what all tokens together would lose without it; `rows`, int64, counts tokens
    that plain top-k sends to it; `is_used` whether there are any; `is_protected` whether it is one
    of some token's top experts or, where no token has any protected, of the batch's top_k.
    """

    loss: Tensor
    rows: Tensor
    is_used: Tensor
    is_protected: Tensor


def worth_of(judged: Judged, held: Tensor, num_protected: int, buffers: Buffers) -> Worth:
    """Return what the batch would lose without each expert.

    A token without one of its experts takes the best other candidate that somebody in the batch
    uses anyway, so it loses the difference of the two scores, as a share of its top-k's mass.
    `held` are the candidates' scores (see `candidate_scores`). A token whose scores are no numbers
    loses nothing, so that it decides nothing for others.
    """
    scores, candidates = judged.scores, judged.candidates
    num_tokens, num_experts = scores.shape
    top_k = judged.plain.experts.shape[1]
    num_others = candidates.shape[1] - top_k
    by_expert, by_token = (num_experts,), (num_tokens, 1)
    by_slot, num_slots = (num_tokens, top_k), num_tokens * top_k
    flat = buffers("slots", (num_slots,), torch.int64)
    flat.view(by_slot).copy_(candidates[:, :top_k])
    rows = buffers("rows", by_expert, torch.int64).zero_()
    ones = buffers.constant(("ones", num_slots), lambda: torch.ones(num_slots, dtype=torch.int64))
    rows.scatter_add_(0, flat, ones)
    is_used = buffers("is used", by_expert, torch.bool).copy_(rows)

    own = buffers("own", by_slot, scores.dtype)
    mass = buffers("mass", by_token, scores.dtype)
    torch.sum(held[:, :top_k], dim=1, keepdim=True, out=mass)
    mass.clamp_(min=torch.finfo(scores.dtype).tiny)
    if num_others:
        open_ = buffers("open", by_expert, scores.dtype).copy_(is_used)
        used = buffers("used candidates", (candidates.numel(),), scores.dtype)
        torch.index_select(open_, 0, candidates.view(-1), out=used)
        others = buffers("others", (num_tokens, num_others), scores.dtype)
        torch.mul(held[:, top_k:], used.view(candidates.shape)[:, top_k:], out=others)
        other = buffers("other", by_token, scores.dtype)
        torch.amax(others, dim=1, keepdim=True, out=other)
        torch.sub(held[:, :top_k], other, out=own).clamp_(min=0.0)
    else:
        own.copy_(held)
    shares = buffers("shares", (num_slots,), torch.int64)
    shares.view(by_slot).copy_(own.div_(mass).nan_to_num_(nan=0.0).mul_(WHOLE))
    loss = buffers("loss", by_expert, torch.int64).zero_()
    loss.scatter_add_(0, flat, shares)

    is_protected = buffers("is protected", by_expert, torch.bool).zero_()
    if num_protected == 0:
        # A batch that may use nothing would go on as it was: it keeps as many as a token uses.
        values = buffers("greatest losses", by_expert, torch.int64)
        order = buffers("by loss", by_expert, torch.int64)
        torch.sort(loss, descending=True, stable=True, out=(values, order))
        is_protected.scatter_(0, order[:top_k], value=True).logical_and_(is_used)
        return Worth(loss, rows, is_used, is_protected)
    best = buffers("best slots", (num_tokens, num_protected), torch.int64)
    # Every write writes the same, so that their order does not matter.
    is_protected.scatter_(0, best.copy_(candidates[:, :num_protected]).view(-1), value=True)
    return Worth(loss, rows, is_used, is_protected)


def candidate_scores(judged: Judged, buffers: Buffers) -> Tensor:
    """Return the candidates' scores, [num_tokens, num_candidates], 0 where one is forbidden."""
    shape = tuple(judged.candidates.shape)
    held = buffers("candidate scores", shape, judged.scores.dtype)
    torch.gather(judged.scores, 1, judged.candidates, out=held)
    if judged.preferences is judged.scores:
        return held  # scores are never below 0
    liked = buffers("candidate preferences", shape, judged.preferences.dtype)
    torch.gather(judged.preferences, 1, judged.candidates, out=liked)
    forbidden = buffers("forbidden", shape, torch.bool)
    return held.masked_fill_(torch.eq(liked, float("-inf"), out=forbidden), 0.0)
