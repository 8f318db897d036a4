"""Shared weights in the order in which an engine wants them, made once per bank and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from torch.utils.weak import WeakTensorKeyDictionary

from moeprof.errors import DeviceOutOfMemory
from moeprof.kernel.bank import SCALE_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from moeprof.device.protocol import Device
    from moeprof.kernel.bank import WeightBank

T = TypeVar("T")

# By the bank's own gate_up: what is kept goes when the bank goes.
_KEPT: Any = WeakTensorKeyDictionary()
_USABLE_FRACTION = 0.9  # as moeprof.kernel.bank leaves


def weight_bytes(bank: WeightBank) -> int:
    """Return the bytes of a bank's weights without their scales."""
    return int(bank.gate_up.nbytes + bank.down.nbytes)


def kept_layout(
    bank: WeightBank, name: str, make: Callable[[], T], device: Device, *, extra_bytes: int
) -> T:
    """Return what `make` returns, made at the first call for this bank and name.

    `extra_bytes` is what making it takes at most. Other layouts of the bank are let go where
    memory is short; bound work that uses them holds them on its own.

    Raises:
        DeviceOutOfMemory: it does not fit; nothing was made.

    """
    kept: dict[str, T] = _KEPT.setdefault(bank.gate_up, {})
    if name in kept:
        return kept[name]
    while (free := device.free_bytes()) * _USABLE_FRACTION < extra_bytes:
        if not kept:
            raise DeviceOutOfMemory(
                f"weights in the order of {name} need {extra_bytes} bytes; {free} bytes are free "
                f"on {device.identity.name}, of which {_USABLE_FRACTION:.0%} may be used",
                hint="Measure a smaller layer, a higher ep_size or tp_size, or free memory.",
            )
        kept.popitem()
    kept[name] = make()
    return kept[name]


def up_first(gate_up: Tensor) -> Tensor:
    """Return `[num_slots, 2 * rows, columns]` with its halves exchanged: up, then gate.

    For weights, and for the scales of weights whose expert size is a multiple of SCALE_BLOCK.
    """
    num_slots, both, columns = gate_up.shape
    halves = gate_up.view(num_slots, 2, both // 2, columns)
    # Written in two copies: flip would hold a third pool for a moment.
    swapped = gate_up.new_empty(num_slots, 2, both // 2, columns)
    swapped[:, 0].copy_(halves[:, 1])
    swapped[:, 1].copy_(halves[:, 0])
    return swapped.view(num_slots, both, columns)


def blocks(size: int) -> int:
    """Return how many scale blocks a row or column of `size` values has."""
    return -(-size // SCALE_BLOCK)
