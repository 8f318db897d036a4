"""The data that expert kernels work on: rotating views of shared weights, with their own rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import torch

from moeprof.device.torch_dtypes import ACTIVATION_TORCH_DTYPES, PLAIN_DTYPES
from moeprof.kernel.assignment import assign
from moeprof.kernel.bank import BankKey, WeightBank, fill_with, random_values, weight_bank
from moeprof.kernel.rotation import rotation

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity
    from moeprof.kernel.assignment import Assignment
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
    """Weights, tokens, rows and outputs of all buffer sets; rows are sorted by expert.

    `tokens` is `[num_buffer_sets, num_tokens, hidden_size]`, and `rows` `[num_buffer_sets,
    num_rows, hidden_size]` the same by row: tokens are what a kernel that gathers reads, rows what
    one reads that does not. `outputs`, NaN at first, is `[num_buffer_sets, num_rows, hidden_size]`,
    or `[num_buffer_sets, num_tokens, hidden_size]` where `combined`: each token's rows, weighted
    and added. `gate_up_out` `[num_rows, 2 * expert_size]` and `hidden` `[num_rows, expert_size]`
    are workspaces that all sets share, as in a serving engine.

    On the device: `row_ends` int32 `[num_local_experts]`, where each expert's rows end;
    `row_tokens` int32 and `row_weights` fp32 `[num_rows]`, each row's token and weight in the
    combination; `token_rows` int32 `[num_tokens, top_k]`, each token's rows, -1 for none.
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
    tokens: Tensor
    row_tokens: Tensor
    row_weights: Tensor
    token_rows: Tensor
    combined: bool = False

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

    def gate_up_scales(self, buffer_set: int) -> Tensor | None:
        """Return `[num_local_experts, 2 * expert_size / 128, hidden_size / 128]`, or None."""
        pool = self.bank.gate_up_scales
        return None if pool is None else self._local(pool, buffer_set)

    def down_scales(self, buffer_set: int) -> Tensor | None:
        """Return `[num_local_experts, hidden_size / 128, expert_size / 128]`, or None."""
        pool = self.bank.down_scales
        return None if pool is None else self._local(pool, buffer_set)

    def _local(self, pool: Tensor, buffer_set: int) -> Tensor:
        first = self.first_slots[buffer_set]
        return pool[first : first + self.workload.num_local_experts]


def refusal_of_data(workload: Workload, identity: DeviceIdentity) -> str | None:
    """Return why torch's own matrix products cannot run this workload, or None."""
    if workload.num_rows == 0:
        return "no rows fall on this rank"
    if identity.kind not in ("cpu", "cuda"):
        return f"torch runs on cpu and cuda, not on {identity.kind}"
    weights, activations = workload.weight_dtype, workload.activation_dtype
    if weights not in PLAIN_DTYPES:
        return f"torch multiplies {', '.join(PLAIN_DTYPES)} weights here, not {weights}"
    if weights != activations:
        return f"weights and activations must have one dtype, not {weights} and {activations}"
    return None


def allocate(
    workload: Workload, device: Device, *, l2_state: L2State, seed: int, combined: bool = False
) -> Buffers:
    """Return random buffers on the device; weights are shared and kept, tokens drawn from `seed`.

    `combined` says that outputs are by token instead of by row.

    Raises:
        DeviceOutOfMemory: they do not fit; nothing has been allocated.

    """
    assert isinstance(device, TorchDevice), "a torch kernel was bound to a device without torch"
    where = device.torch_device
    hidden_size, expert_size = workload.layer.hidden_size, workload.local_expert_size
    dtype = ACTIVATION_TORCH_DTYPES[workload.weight_dtype]
    rotating = rotation(workload, l2_state=l2_state, l2_bytes=device.l2_bytes)
    assignment = assign(workload)
    num_sets, num_rows = len(rotating.first_slots), workload.num_rows
    token_values = num_sets * assignment.num_tokens * hidden_size
    output_rows = assignment.num_tokens if combined else num_rows
    # Workspaces, and as much again for what a kernel allocates in a launch.
    values = token_values + num_sets * hidden_size * (num_rows + output_rows)
    values += 2 * num_rows * (hidden_size + 3 * expert_size)
    key = BankKey(device.identity.uuid, hidden_size, expert_size, workload.weight_dtype)
    bank = weight_bank(
        key,
        rotating.num_slots,
        cast("Device", device),
        where,
        extra_bytes=values * dtype.itemsize,
    )
    tokens = torch.empty(num_sets, assignment.num_tokens, hidden_size, dtype=dtype, device=where)
    block = min(token_values, _ROW_BLOCK_VALUES)
    fill_with(tokens.view(-1), random_values(block, dtype=dtype, where=where, seed=seed))
    row_tokens = torch.from_numpy(assignment.row_tokens).to(where)
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
        rows=tokens[:, row_tokens],
        outputs=torch.full(
            (num_sets, output_rows, hidden_size), float("nan"), dtype=dtype, device=where
        ),
        gate_up_out=torch.empty(num_rows, 2 * expert_size, dtype=dtype, device=where),
        hidden=torch.empty(num_rows, expert_size, dtype=dtype, device=where),
        row_ends=torch.tensor(ends, dtype=torch.int32, device=where),
        tokens=tokens,
        row_tokens=row_tokens,
        row_weights=_row_weights(assignment, seed).to(where),
        token_rows=torch.from_numpy(assignment.token_rows).to(where),
        combined=combined,
    )


def _row_weights(assignment: Assignment, seed: int) -> Tensor:
    """Return a positive weight for each row, fp32 `[num_rows]`; those of a token add up to 1."""
    generator = torch.Generator().manual_seed(seed)
    raw = 0.1 + torch.rand(len(assignment.row_tokens), generator=generator)
    tokens = torch.from_numpy(assignment.row_tokens).long()
    sums = torch.zeros(assignment.num_tokens).index_add_(0, tokens, raw)
    return raw / sums[tokens]
