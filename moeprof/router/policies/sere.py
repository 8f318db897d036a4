"""SERE: a token's lesser experts are replaced by similar ones that are active anyway."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from moeprof.errors import WorkloadError
from moeprof.gate.rule import Routing
from moeprof.router.policies.knobs import check_knob, check_whole
from moeprof.router.policies.ranking import best_mask, rank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True, eq=False)
class SimilarExperts:
    """Re-routes experts that are nobody's primary one to the most similar primary expert.

    Source: Wu et al., arXiv:2602.07616, and the kernel of its repository JL-Cheng/SERE. Primary
    are the best experts of any token of the batch. Weights stay those of the model's own top-k, so
    the primary expert gets what the replaced one had; where a token has it already, the two
    weights are one, and the slot left over has weight 0. Experts that no primary one resembles
    are critical, and kept. An expert that the family forbids a token is never its replacement.
    """

    num_primary: int | None = None
    """Best experts of every token that are never replaced; None is top_k: plain top-k."""
    similarity_threshold: float | None = None
    """An expert less similar than this to all primary ones is kept; None re-routes them all."""
    similarities: Mapping[int, Tensor] = field(default_factory=dict)
    """Per layer, [num_experts, num_experts], how similar the column's expert is to the row's.

    Float32 and on the logits' device, or they are copied there at every step.
    """

    def __post_init__(self) -> None:
        """Raise WorkloadError: no primary experts, or similarities that cannot be compared."""
        check_whole("sere", "num_primary", self.num_primary, least=1)
        check_knob("sere", "similarity_threshold", self.similarity_threshold, least=float("-inf"))
        for layer, similarity in self.similarities.items():
            if similarity.dim() != 2 or len(set(similarity.shape)) != 1:  # noqa: PLR2004 - square
                raise WorkloadError(
                    f"router sere: similarities of layer {layer} must be [num_experts, "
                    f"num_experts], got {list(similarity.shape)}"
                )
            if bool(similarity.isnan().any()):
                raise WorkloadError(
                    f"router sere: similarities of layer {layer} must be numbers, got NaN"
                )

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return top-k with lesser experts replaced; `logits`, [num_tokens, num_experts].

        Raises WorkloadError: num_primary above the model's top_k, or no similarities for the layer.
        """
        rule = context.rule
        check_whole("sere", "num_primary", self.num_primary, least=1, most=rule.top_k)
        if self.num_primary is None or self.num_primary == rule.top_k:
            return rule.choose(logits)
        similarity = self._similarity(context, logits)
        ranking = rank(logits, rule)
        primary = best_mask(ranking.keys, self.num_primary).any(dim=0)
        experts = ranking.plain.experts
        resemblance = similarity[experts].masked_fill(
            ~(primary & ranking.allowed).unsqueeze(1), float("-inf")
        )
        # The lower index of equals; argmax promises none.
        highest = resemblance.amax(dim=-1, keepdim=True)
        place = torch.arange(rule.num_experts, device=logits.device)
        nearest = torch.where(resemblance == highest, place, rule.num_experts).amin(dim=-1)
        stays = primary[experts]
        if self.similarity_threshold is not None:
            stays = stays | (highest.squeeze(-1) < self.similarity_threshold)
        return _merged(torch.where(stays, experts, nearest), ranking.plain.weights)

    def _similarity(self, context: RoutingContext, logits: Tensor) -> Tensor:
        similarity = self.similarities.get(context.layer)
        if similarity is None:
            raise WorkloadError(
                f"router sere: similarities must be given for layer {context.layer}, got layers "
                f"{sorted(self.similarities)}",
                hint="moeprof.router.policies.similarity makes them of experts' outputs.",
            )
        num_experts = context.rule.num_experts
        if len(similarity) != num_experts:
            raise WorkloadError(
                f"router sere: similarities of layer {context.layer} must be of {num_experts} "
                f"experts, got {len(similarity)}"
            )
        return similarity.to(logits.device, torch.float32)


def _merged(experts: Tensor, weights: Tensor) -> Routing:
    """Return slots of which no two that count name one expert; both [num_tokens, top_k]."""
    slot = torch.arange(experts.shape[-1], device=experts.device)
    same = experts.unsqueeze(-1) == experts.unsqueeze(-2)
    # The first slot of the same expert takes all the weight; alone, it keeps its own bits.
    first = torch.where(same, slot, experts.shape[-1]).amin(dim=-1)
    takes = first.unsqueeze(-2) == slot.unsqueeze(-1)
    summed = torch.where(takes, weights.float().unsqueeze(-2), 0.0).sum(dim=-1)
    return Routing(experts, summed.to(weights.dtype))
