"""Room for a run's keys and values, so that a step writes its own instead of copying all."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_GROWS = "DynamicLayer"


def copied_with_room(cache: Any, num_more: int) -> Any:
    """Return a copy of a Transformers cache whose layers have room for `num_more` tokens.

    Transformers grows a cache by concatenation: it took 60 % of a step of the mini-MoE with 160
    sequences. Layers of another kind than the plain growing one are copied as they are.
    """
    found = copy.deepcopy(cache)
    for layer in found.layers:
        if type(layer).__name__ == _GROWS:
            layer.update = _Room(layer, num_more).update
    return found


class _Room:
    """Takes the place of a cache layer's `update`."""

    def __init__(self, layer: Any, num_more: int) -> None:
        self._layer = layer
        self._length = layer.keys.shape[-2]
        self._keys = _widened(layer.keys, num_more)
        self._values = _widened(layer.values, num_more)
        self._show()

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write keys and values, [num_sequences, num_heads, num_tokens, size], behind the last."""
        start = self._length
        self._length += keys.shape[-2]
        self._keys[:, :, start : self._length] = keys
        self._values[:, :, start : self._length] = values
        return self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        layer = self._layer
        layer.keys = self._keys[:, :, : self._length]
        layer.values = self._values[:, :, : self._length]
        return layer.keys, layer.values


def _widened(values: Tensor, num_more: int) -> Tensor:
    num_sequences, num_heads, length, size = values.shape
    room = values.new_empty((num_sequences, num_heads, length + num_more, size))
    room[:, :, :length] = values
    return room
