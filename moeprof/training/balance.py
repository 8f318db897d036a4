"""Balancing without a loss: biases that steer each gate's choice towards the idle experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moeprof.gate.site import find_gates
from moeprof.gate.steering import tune

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from moeprof.recipe.training import GateSection
    from moeprof.training.gate_watch import GateAnswer


def tune_gates(model: nn.Module, section: GateSection) -> Tensor | None:
    """Give the gates the recipe's temperature, and biases of 0 where it wants them.

    Returns the biases, [num_gates, num_experts], float32 on the gates' device: a change in place
    acts at once. None where the recipe has no bias.
    """
    sites = find_gates(model)
    temperature = section.softmax_temperature if section.softmax_temperature != 1 else None
    bias = None
    if section.bias_update_speed is not None:
        device = next(sites[0].gate.parameters()).device
        bias = torch.zeros(len(sites), sites[0].rule.num_experts, device=device)
    tune(model, softmax_temperature=temperature, selection_bias=bias)
    return bias


def update_bias(bias: Tensor, answers: Sequence[GateAnswer], *, speed: float) -> None:
    """Raise the bias of each expert below the mean load by `speed`, lower that of those above.

    Auxiliary-loss-free load balancing, arXiv:2408.15664, algorithm 1: b += speed · sign(mean load
    - load). `bias`, [num_gates, num_experts], is changed in place; it enters the selection only.
    """
    loads = torch.stack([answer.load_fractions() for answer in answers])
    bias += speed * torch.sign(loads.mean(dim=-1, keepdim=True) - loads)
