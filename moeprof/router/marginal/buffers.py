"""Tensors that are made at a first call and used again at every later one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Buffers:
    """Tensors by name and shape, each made once; what they hold is the caller's affair.

    A decode step that writes into them allocates nothing, and can be captured in a CUDA graph.
    None is an inference tensor, so that a call outside of `torch.inference_mode` may follow one
    inside.
    """

    __slots__ = ("_constants", "_device", "_held")

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held: dict[tuple[object, tuple[int, ...], torch.dtype], Tensor] = {}
        self._constants: dict[object, Tensor] = {}

    def __call__(self, name: object, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return the tensor of this name and shape; its values are those last written."""
        key = (name, shape, dtype)
        held = self._held.get(key)
        if held is None:
            with torch.inference_mode(mode=False):
                held = self._held[key] = torch.empty(shape, dtype=dtype, device=self._device)
        return held

    def constant(self, name: object, make: Callable[[], Tensor]) -> Tensor:
        """Return what `make` made at the first call; nobody writes into it."""
        held = self._constants.get(name)
        if held is None:
            with torch.inference_mode(mode=False):
                held = self._constants[name] = make().to(self._device)
        return held
