"""How similar experts are, by what they make of the same tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_DIMENSIONS = 2  # experts, and what is compared of them


def frobenius_similarity(outputs: Tensor) -> Tensor:
    """Return 1 less every pair's distance over the greatest, float32, [num_experts, num_experts].

    `outputs` is [num_experts, ...]: all experts on the same tokens. The distance is Frobenius's.
    Source: Wu et al., arXiv:2602.07616, and its repository JL-Cheng/SERE, which averages this over
    batches of calibration text. Of weights in place of outputs, which need no text, it is a
    stand-in that the authors did not judge.

    Raises WorkloadError: outputs of one dimension, or that are not finite.
    """
    if outputs.dim() < _LEAST_DIMENSIONS or not bool(outputs.isfinite().all()):
        raise WorkloadError(
            f"experts' outputs must be finite and [num_experts, ...], got {list(outputs.shape)}"
        )
    flat = outputs.float().flatten(1)
    distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    farthest = distances.amax()
    return torch.where(farthest > 0, 1.0 - distances / farthest, torch.ones_like(distances))
