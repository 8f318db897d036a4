"""Random expert weights, kept from one point to the next because making them takes long."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moeprof.device.torch_dtypes import TORCH_DTYPES
from moeprof.errors import DeviceOutOfMemory

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device

# Weights repeat a random block of prime length, so that no two rows or experts are alike in
# position: copying is some ten times faster than drawing, and no cache can tell the difference.
_BLOCK_VALUES = 4_194_301
_SEED = 20_240_229
# The last tenth of free memory stays free: for workspaces, and for whatever else is running.
_USABLE_FRACTION = 0.9


@dataclass(frozen=True, slots=True)
class BankKey:
    """What weights must agree in to be shared, by all kernels and all workloads."""

    device_uuid: str
    hidden_size: int
    expert_size: int
    dtype: str


@dataclass(frozen=True, slots=True)
class WeightBank:
    """A pool of experts, normal with unit gain.

    `gate_up` is `[num_slots, 2 * expert_size, hidden_size]`, gate first; `down` is
    `[num_slots, hidden_size, expert_size]`; both contiguous. The columns are each slot's
    transposed views, made once because a view apiece in every bind takes longer than all the rest.
    """

    gate_up: Tensor
    down: Tensor
    gate_up_columns: tuple[Tensor, ...]
    down_columns: tuple[Tensor, ...]

    @property
    def num_slots(self) -> int:
        """How many experts the pool holds."""
        return self.gate_up.shape[0]


_BANKS: OrderedDict[BankKey, WeightBank] = OrderedDict()


def clear_banks() -> None:
    """Forget all weights; memory is freed once no bound work uses them."""
    _BANKS.clear()


def weight_bank(
    key: BankKey, num_slots: int, device: Device, where: torch.device, *, extra_bytes: int
) -> WeightBank:
    """Return a pool of at least `num_slots` experts, made at the first call and kept.

    Pools that were not used for longest are dropped where memory is short. `extra_bytes` is what
    the caller will allocate besides.

    Raises:
        DeviceOutOfMemory: the pool and `extra_bytes` do not fit, even alone.

    """
    kept = _BANKS.get(key)
    if kept is not None and kept.num_slots < num_slots:
        kept = None
        del _BANKS[key]
    size = torch.empty((), dtype=TORCH_DTYPES[key.dtype]).element_size()
    pool_bytes = num_slots * 3 * key.hidden_size * key.expert_size * size
    _make_room(device, extra_bytes + (pool_bytes if kept is None else 0), keep=key)
    if kept is None:
        kept = _make(key, num_slots, where)
        _BANKS[key] = kept
    _BANKS.move_to_end(key)
    return kept


def random_values(count: int, *, dtype: torch.dtype, where: torch.device, seed: int) -> Tensor:
    """Return `count` normal values, drawn from `seed`."""
    generator = torch.Generator(device=where).manual_seed(seed)
    return torch.randn(count, generator=generator, device=where, dtype=torch.float32).to(dtype)


def fill_with(flat: Tensor, block: Tensor) -> None:
    """Fill a flat tensor with copies of a block, one after the other."""
    filled = min(block.numel(), flat.numel())
    flat[:filled] = block[:filled]
    while filled < flat.numel():  # doubling: what is copied stays a whole number of blocks
        step = min(filled, flat.numel() - filled)
        flat[filled : filled + step] = flat[:step]
        filled += step


def _make_room(device: Device, needed: int, *, keep: BankKey) -> None:
    while (free := device.free_bytes()) * _USABLE_FRACTION < needed:
        oldest = next((key for key in _BANKS if key != keep), None)
        if oldest is None:
            raise DeviceOutOfMemory(
                f"weights and activations need {needed} bytes; {free} bytes are free on "
                f"{device.identity.name}, of which {_USABLE_FRACTION:.0%} may be used",
                hint="Measure a smaller layer, a higher ep_size or tp_size, or free memory.",
            )
        del _BANKS[oldest]


def _make(key: BankKey, num_slots: int, where: torch.device) -> WeightBank:
    dtype = TORCH_DTYPES[key.dtype]
    gate_up_shape = (num_slots, 2 * key.expert_size, key.hidden_size)
    down_shape = (num_slots, key.hidden_size, key.expert_size)
    # No more random values than weights: small layers are bound in a hurry too.
    values = min(_BLOCK_VALUES, num_slots * gate_up_shape[1] * gate_up_shape[2])
    block = random_values(values, dtype=torch.float32, where=where, seed=_SEED)
    gate_up = torch.empty(gate_up_shape, dtype=dtype, device=where)
    fill_with(gate_up.view(-1), (block * key.hidden_size**-0.5).to(dtype))
    down = torch.empty(down_shape, dtype=dtype, device=where)
    fill_with(down.view(-1), (block * key.expert_size**-0.5).to(dtype))
    return WeightBank(
        gate_up=gate_up,
        down=down,
        gate_up_columns=gate_up.transpose(1, 2).unbind(0),
        down_columns=down.transpose(1, 2).unbind(0),
    )
