"""The data that expert kernels work on: rotating views of shared weights, with their own rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import torch

from moeprof.device.torch_dtypes import TORCH_DTYPES
from moeprof.kernel.bank import BankKey, WeightBank, fill_with, random_values, weight_bank
from moeprof.kernel.rotation import rotation

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

# Rows repeat a random block too: a bind with weights at hand should take milliseconds.
_ROW_BLOCK_VALUES = 262_139


@runtime_checkable
class TorchDevice(Protocol):
    """A device on which torch runs: `torch_device` is where tensors go."""

    torch_device: torch.device


@dataclass(frozen=True, slots=True)
class ActiveExpert:
    """A local expert with rows: those from `first_row` up to, not including, `end_row`."""

    expert: int
    first_row: int
    end_row: int


@dataclass(frozen=True, slots=True)
class Buffers:
    """Weights, rows and outputs of all buffer sets; rows are sorted by expert.

    `rows` and `outputs` are `[num_buffer_sets, num_rows, hidden_size]`; outputs begin as NaN.
    `gate_up_out` `[num_rows, 2 * expert_size]` and `hidden` `[num_rows, expert_size]` are
    workspaces that all sets share, as in a serving engine. `row_ends[num_local_experts]` is int32,
    on the device: where each expert's rows end.
    """

    workload: Workload
    bank: WeightBank
    first_slots: tuple[int, ...]
    l2_state: L2State
    active: tuple[ActiveExpert, ...]
    rows: Tensor
    outputs: Tensor
    gate_up_out: Tensor
    hidden: Tensor
    row_ends: Tensor

    @property
    def num_buffer_sets(self) -> int:
        """How many sets rotate."""
        return len(self.first_slots)

    def gate_up(self, buffer_set: int) -> Tensor:
        """Return `[num_local_experts, 2 * expert_size, hidden_size]`, gate first."""
        return self._local(self.bank.gate_up, buffer_set)

    def down(self, buffer_set: int) -> Tensor:
        """Return `[num_local_experts, hidden_size, expert_size]`."""
        return self._local(self.bank.down, buffer_set)

    def _local(self, pool: Tensor, buffer_set: int) -> Tensor:
        first = self.first_slots[buffer_set]
        return pool[first : first + self.workload.num_local_experts]


def refusal_of_data(workload: Workload, identity: DeviceIdentity) -> str | None:
    """Return why no torch kernel can hold this workload's data, or None."""
    if workload.num_rows == 0:
        return "no rows fall on this rank"
    if identity.kind not in ("cpu", "cuda"):
        return f"torch runs on cpu and cuda, not on {identity.kind}"
    weights, activations = workload.weight_dtype, workload.activation_dtype
    if weights not in TORCH_DTYPES:
        return f"torch multiplies {', '.join(TORCH_DTYPES)} weights here, not {weights}"
    if weights != activations:
        return f"weights and activations must have one dtype, not {weights} and {activations}"
    return None


def allocate(workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Buffers:
    """Return random buffers on the device; weights are shared and kept, rows drawn from `seed`.

    Raises:
        DeviceOutOfMemory: they do not fit; nothing has been allocated.

    """
    assert isinstance(device, TorchDevice), "a torch kernel was bound to a device without torch"
    where = device.torch_device
    hidden_size, expert_size = workload.layer.hidden_size, workload.local_expert_size
    dtype = TORCH_DTYPES[workload.weight_dtype]
    rotating = rotation(workload, l2_state=l2_state, l2_bytes=device.l2_bytes)
    shape = (len(rotating.first_slots), workload.num_rows, hidden_size)
    row_values = shape[0] * shape[1] * shape[2]
    # Rows, outputs, workspaces, and as much again for what a kernel allocates in a launch.
    values = 2 * row_values + 2 * workload.num_rows * (hidden_size + 3 * expert_size)
    key = BankKey(device.identity.uuid, hidden_size, expert_size, workload.weight_dtype)
    bank = weight_bank(
        key,
        rotating.num_slots,
        cast("Device", device),
        where,
        extra_bytes=values * dtype.itemsize,
    )
    rows = torch.empty(shape, dtype=dtype, device=where)
    block = min(row_values, _ROW_BLOCK_VALUES)
    fill_with(rows.view(-1), random_values(block, dtype=dtype, where=where, seed=seed))
    ends = tuple(accumulate(workload.rows_per_expert))
    return Buffers(
        workload=workload,
        bank=bank,
        first_slots=rotating.first_slots,
        l2_state=rotating.l2_state,
        active=tuple(
            ActiveExpert(expert, end - num_rows, end)
            for expert, (num_rows, end) in enumerate(
                zip(workload.rows_per_expert, ends, strict=True)
            )
            if num_rows
        ),
        rows=rows,
        outputs=torch.full(shape, float("nan"), dtype=dtype, device=where),
        gate_up_out=torch.empty(workload.num_rows, 2 * expert_size, dtype=dtype, device=where),
        hidden=torch.empty(workload.num_rows, expert_size, dtype=dtype, device=where),
        row_ends=torch.tensor(ends, dtype=torch.int32, device=where),
    )
