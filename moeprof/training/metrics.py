"""How a batch was routed, in the few numbers that show a collapse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from moeprof.training.losses import token_entropy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from moeprof.training.gate_watch import GateAnswer

NUM_TOKENS_OF_A_STEP = 16


@dataclass(frozen=True, slots=True)
class RoutingMetrics:
    """Numbers of a batch, each with one value per layer, in layer order.

    `diversity_fractions`: the share of the experts that at least one token of the batch uses.
    `step_diversity_fractions`: the same of 16 neighbouring tokens, the mean over the batch; a
    decode step of 16 requests is about as large. `load_imbalances`: the tokens of the fullest
    expert over the mean, 1 to num_experts. `entropies_nats`: the mean entropy of a token's
    probabilities, 0 to ln num_experts.
    """

    diversity_fractions: tuple[float, ...]
    step_diversity_fractions: tuple[float, ...]
    load_imbalances: tuple[float, ...]
    entropies_nats: tuple[float, ...]
    load_fractions: tuple[tuple[float, ...], ...]
    """Each expert's share of the (token, slot) pairs, by layer."""


@torch.no_grad()
def routing_metrics(answers: Sequence[GateAnswer]) -> RoutingMetrics:
    """Return the metrics of what the gates answered, one answer per layer."""
    loads = torch.stack([answer.load_fractions() for answer in answers])
    num_experts = loads.shape[-1]
    entropies = torch.stack([token_entropy(answer.probabilities) for answer in answers])
    steps = torch.stack([_step_diversity(answer.experts, num_experts) for answer in answers])
    return RoutingMetrics(
        diversity_fractions=_numbers((loads > 0).float().mean(dim=-1)),
        step_diversity_fractions=_numbers(steps),
        load_imbalances=_numbers(loads.amax(dim=-1) * num_experts),
        entropies_nats=_numbers(entropies),
        load_fractions=tuple(_numbers(row) for row in loads),
    )


def _step_diversity(experts: Tensor, num_experts: int) -> Tensor:
    # A batch of fewer tokens is one step.
    length = min(NUM_TOKENS_OF_A_STEP, len(experts))
    num_steps = len(experts) // length
    steps = experts[: num_steps * length].reshape(num_steps, -1)
    return functional.one_hot(steps, num_experts).amax(dim=1).float().mean()


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(values.tolist())
