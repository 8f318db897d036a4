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
    judged: Judged,
    held: Tensor,
    usable: Tensor,
    buffers: Buffers,
    *,
    renormalised: bool,
    layer: int = 0,
) -> Routing:
    """Return each token's best candidates among the `usable` experts, bool, [num_experts].

    `held` are the candidates' scores, 0 where one is forbidden (see `candidate_scores`). A token
    that loses none of its experts has the plain answer, and so has one that may use nothing of
    what is left; else a slot without a candidate is not used. Weights are scores, scaled as the
    plain ones are. The answer's tensors are those of `layer`.
    """
    candidates, plain = judged.candidates, judged.plain
    num_tokens, num_candidates = candidates.shape
    top_k, kind = plain.experts.shape[1], plain.weights.dtype
    shape, by_token = (num_tokens, top_k), (num_tokens, 1)
    may = buffers("may", (candidates.numel(),), torch.float32)
    allowed = buffers("allowed", tuple(usable.shape), torch.float32).copy_(usable)
    torch.index_select(allowed, 0, candidates.view(-1), out=may)
    turn = may.view(candidates.shape)
    fewest = buffers("fewest", by_token, torch.float32)
    torch.amin(turn[:, :top_k], dim=1, keepdim=True, out=fewest)
    stays = buffers("stays plain", by_token, torch.bool).copy_(fewest)
    barred = buffers("barred", tuple(candidates.shape), torch.bool)
    torch.logical_not(held, out=barred)

    # The first candidates that may be used, in their order: the places that count down are highest.
    countdown = buffers.constant(
        ("countdown", num_candidates),
        lambda: torch.arange(num_candidates, 0, -1, dtype=torch.float32),
    )
    turn.mul_(countdown).masked_fill_(barred, 0.0)
    values = buffers("values", shape, torch.float32)
    places = buffers("places", shape, torch.int64)
    torch.topk(turn, top_k, dim=1, out=(values, places))
    unused = torch.logical_not(values, out=buffers("unused slots", shape, torch.bool))
    stays.logical_or_(unused[:, :1])
    best = buffers("best", shape, torch.int64)
    torch.gather(candidates, 1, places, out=best)
    chosen = torch.where(unused, best[:, :1], best, out=buffers("chosen", shape, torch.int64))
    scores = buffers("chosen scores", shape, held.dtype)
    torch.gather(held, 1, places, out=scores)
    scores.masked_fill_(unused, 0.0)

    # What plain weights are of plain scores, these are of theirs.
    base = scores if renormalised else held[:, :top_k]
    below = torch.sum(base, dim=1, keepdim=True, out=buffers("below", by_token, held.dtype))
    scale = buffers("scale", by_token, held.dtype)
    torch.sum(plain.weights, dim=1, keepdim=True, dtype=held.dtype, out=scale)
    scores.mul_(scale.div_(below.clamp_(min=torch.finfo(held.dtype).tiny)))
    weights = scores if kind == held.dtype else buffers("rounded", shape, kind).copy_(scores)
    answer = (
        buffers(("experts", layer), shape, torch.int64),
        buffers(("weights", layer), shape, kind),
    )
    return Routing(
        torch.where(stays, plain.experts, chosen, out=answer[0]),
        torch.where(stays, plain.weights, weights, out=answer[1]),
    )
