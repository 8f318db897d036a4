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
    that plain top-k sends to it; `is_protected` whether it is one of some token's top experts.
    """

    loss: Tensor
    rows: Tensor
    is_protected: Tensor


def worth_of(judged: Judged, held: Tensor, num_protected: int, buffers: Buffers) -> Worth:
    """Return what the batch would lose without each expert.

    A token without one of its experts takes the best other candidate that somebody in the batch
    uses anyway, so it loses the difference of the two scores, as a share of its top-k's mass.
    `held` are the candidates' scores (see `candidate_scores`).
    """
    scores, candidates = judged.scores, judged.candidates
    num_tokens, num_experts = scores.shape
    top_k = judged.plain.experts.shape[1]
    by_candidate, by_expert = tuple(candidates.shape), (num_experts,)
    by_slot, by_token, num_slots = (num_tokens, top_k), (num_tokens, 1), num_tokens * top_k
    flat = buffers("slots", (num_slots,), torch.int64)
    flat.view(by_slot).copy_(candidates[:, :top_k])
    rows = buffers("rows", by_expert, torch.int64)
    rows.zero_()
    rows.scatter_add_(0, flat, buffers("ones", (num_slots,), torch.int64).fill_(1))

    others = buffers("others", by_candidate, scores.dtype)
    used = buffers("used candidates", (candidates.numel(),), torch.int64)
    torch.index_select(rows, 0, candidates.view(-1), out=used)
    torch.mul(held, used.clamp_(max=1).view(by_candidate), out=others)
    others[:, :top_k].zero_()
    other = torch.amax(others, dim=1, keepdim=True, out=buffers("other", by_token, scores.dtype))

    own = buffers("own", by_slot, scores.dtype).copy_(held[:, :top_k])
    mass = torch.sum(own, dim=1, keepdim=True, out=buffers("mass", by_token, scores.dtype))
    mass.clamp_(min=torch.finfo(scores.dtype).tiny)
    shares = buffers("shares", (num_slots,), torch.int64)
    shares.view(by_slot).copy_(own.sub_(other).clamp_(min=0.0).div_(mass).mul_(WHOLE))
    loss = buffers("loss", by_expert, torch.int64)
    loss.zero_()
    loss.scatter_add_(0, flat, shares)

    is_protected = buffers("is protected", by_expert, torch.bool)
    is_protected.zero_()
    best = buffers("best slots", (num_tokens, num_protected), torch.int64)
    # Every write writes the same, so that their order does not matter.
    is_protected.scatter_(0, best.copy_(candidates[:, :num_protected]).view(-1), value=True)
    return Worth(loss, rows, is_protected)


def candidate_scores(judged: Judged, buffers: Buffers) -> Tensor:
    """Return the candidates' scores, [num_tokens, num_candidates], 0 where one is forbidden."""
    shape = tuple(judged.candidates.shape)
    held = buffers("candidate scores", shape, judged.scores.dtype)
    torch.gather(judged.scores, 1, judged.candidates, out=held)
    liked = buffers("candidate preferences", shape, judged.preferences.dtype)
    torch.gather(judged.preferences, 1, judged.candidates, out=liked)
    forbidden = buffers("forbidden", shape, torch.bool)
    return held.masked_fill_(torch.eq(liked, float("-inf"), out=forbidden), 0.0)
