"""Tensors that are made at a first call and used again at every later one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Buffers:
    """Tensors by name, each made once in its shape; what they hold is the caller's affair.

    A decode step that writes into them allocates nothing, and can be captured in a CUDA graph.
    """

    __slots__ = ("_device", "_held")

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held: dict[str, Tensor] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return the tensor of this name; its values are those that were last written."""
        held = self._held.get(name)
        if held is None:
            held = self._held[name] = torch.empty(shape, dtype=dtype, device=self._device)
        assert held.shape == shape, f"{name} is of {tuple(held.shape)}, asked for as {shape}"
        return held
