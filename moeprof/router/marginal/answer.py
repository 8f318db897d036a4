"""Each token's best candidates of those experts that the batch may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moeprof.gate.rule import Routing

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Judged
    from moeprof.router.marginal.buffers import Buffers


def best_of(
    judged: Judged, held: Tensor, usable: Tensor, buffers: Buffers, *, renormalised: bool
) -> Routing:
    """Return each token's best candidates among the `usable` experts, bool, [num_experts].

    `held` are the candidates' scores, 0 where one is forbidden (see `candidate_scores`). A token
    that loses none of its experts has the plain answer, and so has one that may use nothing of
    what is left; else a slot without a candidate is not used. Weights are scores, scaled as the
    plain ones are.
    """
    candidates, plain = judged.candidates, judged.plain
    num_tokens, num_candidates = candidates.shape
    top_k = plain.experts.shape[1]
    shape, by_token = (num_tokens, top_k), (num_tokens, 1)
    may = buffers("may", (candidates.numel(),), torch.bool)
    torch.index_select(usable, 0, candidates.view(-1), out=may)
    open_ = may.view(tuple(candidates.shape))
    stays = buffers("stays plain", by_token, torch.bool)
    torch.all(open_[:, :top_k], dim=1, keepdim=True, out=stays)
    allowed = buffers("allowed", tuple(candidates.shape), torch.bool)
    open_.logical_and_(torch.gt(held, 0, out=allowed))

    # The first candidates that may be used, in their order: the places that count down are highest.
    turn = buffers("turn", tuple(candidates.shape), torch.float32)
    countdown = buffers("countdown", (num_candidates,), torch.float32)
    torch.arange(num_candidates, 0, -1, out=countdown)
    torch.mul(open_, countdown, out=turn)
    values = buffers("values", shape, torch.float32)
    places = buffers("places", shape, torch.int64)
    torch.topk(turn, top_k, dim=1, out=(values, places))
    used = torch.gt(values, 0, out=buffers("used", shape, torch.bool))
    stays.logical_or_(torch.logical_not(used[:, :1], out=buffers("none", by_token, torch.bool)))
    best = buffers("best", shape, torch.int64)
    torch.gather(candidates, 1, places, out=best)
    chosen = torch.where(used, best, best[:, :1], out=buffers("chosen", shape, torch.int64))
    scores = buffers("chosen scores", shape, held.dtype)
    torch.gather(held, 1, places, out=scores)
    scores.mul_(used)

    # What plain weights are of plain scores, these are of theirs.
    base = scores if renormalised else held[:, :top_k]
    below = torch.sum(base, dim=1, keepdim=True, out=buffers("below", by_token, held.dtype))
    above = buffers("above", by_token, plain.weights.dtype)
    torch.sum(plain.weights, dim=1, keepdim=True, out=above)
    scale = buffers("scale", by_token, held.dtype).copy_(above)
    scores.mul_(scale.div_(below.clamp_(min=torch.finfo(held.dtype).tiny)))
    weights = buffers("new weights", shape, plain.weights.dtype).copy_(scores)
    kind = plain.weights.dtype
    return Routing(
        torch.where(stays, plain.experts, chosen, out=buffers("experts", shape, torch.int64)),
        torch.where(stays, plain.weights, weights, out=buffers("weights", shape, kind)),
    )
