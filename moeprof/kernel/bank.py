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
# DeepSeek-V3's format (arXiv 2412.19437, section 3.3): an fp32 scale per block of 128 x 128.
SCALE_BLOCK = 128
# Standard deviation of fp8 weights before their scales: 5 of it reach e4m3's maximum of 448.
_FP8_SPREAD = 90.0
_FP8_MAX = 448.0
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
    The scales of fp8 weights are fp32, `[num_slots, rows / 128, columns / 128]` and rounded up;
    None for other formats.
    """

    gate_up: Tensor
    down: Tensor
    gate_up_columns: tuple[Tensor, ...]
    down_columns: tuple[Tensor, ...]
    gate_up_scales: Tensor | None = None
    down_scales: Tensor | None = None

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
    weights = num_slots * 3 * key.hidden_size * key.expert_size
    pool_bytes = weights * TORCH_DTYPES[key.dtype].itemsize
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
    gate_up, gate_up_scales = _projection(
        key, (num_slots, 2 * key.expert_size, key.hidden_size), where
    )
    down, down_scales = _projection(key, (num_slots, key.hidden_size, key.expert_size), where)
    return WeightBank(
        gate_up=gate_up,
        down=down,
        gate_up_columns=gate_up.transpose(1, 2).unbind(0),
        down_columns=down.transpose(1, 2).unbind(0),
        gate_up_scales=gate_up_scales,
        down_scales=down_scales,
    )


def _projection(
    key: BankKey, shape: tuple[int, int, int], where: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Return weights of unit gain, `[num_slots, rows, columns]`, and their scales if they have."""
    dtype = TORCH_DTYPES[key.dtype]
    num_slots, num_rows, num_columns = shape
    gain = num_columns**-0.5
    # No more random values than weights: small layers are bound in a hurry too.
    values = min(_BLOCK_VALUES, num_slots * 2 * key.expert_size * key.hidden_size)
    block = random_values(values, dtype=torch.float32, where=where, seed=_SEED)
    weights = torch.empty(shape, dtype=dtype, device=where)
    if dtype is not torch.float8_e4m3fn:
        fill_with(weights.view(-1), (block * gain).to(dtype))
        return weights, None
    fill_with(weights.view(-1), (block * _FP8_SPREAD).clamp(-_FP8_MAX, _FP8_MAX).to(dtype))
    scales = torch.empty(
        num_slots,
        -(-num_rows // SCALE_BLOCK),
        -(-num_columns // SCALE_BLOCK),
        dtype=torch.float32,
        device=where,
    )
    # Scales differ by a factor of up to three, so that a kernel that mixes them up is seen.
    spread = 0.5 + torch.sigmoid(block[: min(values, scales.numel())])
    fill_with(scales.view(-1), spread * (gain / _FP8_SPREAD))
    return weights, scales
