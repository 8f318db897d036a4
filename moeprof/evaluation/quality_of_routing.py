"""How far one layer's routing of all seeds is from plain top-k's, quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from moeprof.gate.rule import GateRule


def gate_quality(
    rule: GateRule, logits: Tensor, experts: Tensor, weights: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return retained gate mass and the share of selections changed, [num_seeds] each.

    `logits` are [num_seeds, batch_size, num_experts], `experts` and `weights` [num_seeds,
    batch_size, k]; means over the batch, each figure as `RoutingComparison` defines it. Slots of
    weight 0 are not used, so a token that is dropped altogether retains nothing.
    """
    num_seeds, batch_size, num_experts = logits.shape
    flat = logits.reshape(-1, num_experts)
    scores = rule.scores(flat)
    plain = torch.zeros(flat.shape).scatter_(1, rule.choose(flat).experts, 1.0)
    used = (weights != 0).float().reshape(len(flat), -1)
    routed = torch.zeros(flat.shape)
    routed.scatter_reduce_(1, experts.reshape(len(flat), -1), used, "amax")
    whole = (scores * plain).sum(dim=1)
    mass = torch.where(whole > 0, (scores * routed).sum(dim=1) / whole, 1.0)
    same = (plain * routed).sum(dim=1)
    most = torch.maximum(plain.sum(dim=1), routed.sum(dim=1))
    changed = 1.0 - same / most

    def mean(values: Tensor) -> NDArray[np.float64]:
        found: NDArray[np.float64] = values.double().view(num_seeds, batch_size).mean(1).numpy()
        return found

    return mean(mass), mean(changed)
