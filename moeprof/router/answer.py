"""Whether what a router answered can be used."""

from __future__ import annotations

import torch
from torch import Tensor

from moeprof.gate.rule import Routing


def fault_of(answer: object, logits: Tensor) -> str | None:
    """Return what is wrong with a router's answer to `logits`, [num_tokens, num_experts], or None.

    Types, shapes and devices are looked at always; values on the CPU only, since a GPU would have
    to be waited for.
    """
    if not isinstance(answer, Routing):
        return f"must answer with a Routing, got {type(answer).__name__}"
    parts: tuple[tuple[str, object], ...] = (
        ("experts", answer.experts),
        ("weights", answer.weights),
    )
    for name, values in parts:
        if not isinstance(values, Tensor):
            return f"{name} must be a tensor, got {type(values).__name__}"
        if values.device != logits.device:
            return f"{name} must be on {logits.device}, got {values.device}"
    return _fault_of_shape(answer, logits) or _fault_of_values(answer, logits)


def _fault_of_shape(answer: Routing, logits: Tensor) -> str | None:
    num_tokens, num_experts = logits.shape
    experts, weights = answer.experts, answer.weights
    if experts.dtype != torch.int64:
        return f"experts must be int64, got {experts.dtype}"
    if not weights.is_floating_point():
        return f"weights must be floating, got {weights.dtype}"
    if experts.dim() != 2 or experts.shape[0] != num_tokens:  # noqa: PLR2004 - tokens and slots
        return f"experts must be [{num_tokens}, k], got {list(experts.shape)}"
    if not 1 <= experts.shape[1] <= num_experts:
        return f"experts must have 1..{num_experts} slots for each token, got {experts.shape[1]}"
    if weights.shape != experts.shape:
        return f"weights must be {list(experts.shape)} as experts are, got {list(weights.shape)}"
    return None


def _fault_of_values(answer: Routing, logits: Tensor) -> str | None:
    if logits.device.type != "cpu" or not len(logits) or torch.compiler.is_compiling():
        return None
    least, most = (int(value) for value in answer.experts.aminmax())
    if least < 0 or most >= logits.shape[1]:
        found = least if least < 0 else most
        return f"experts must lie in 0..{logits.shape[1] - 1}, got {found}"
    # Logits that are not numbers are the model's fault, which it would show without us as well.
    if not answer.weights.isfinite().all() and logits.isfinite().all():
        return "weights must be finite, got NaN or infinity"
    return None
