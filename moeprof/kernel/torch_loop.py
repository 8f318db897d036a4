"""The plainest kernel: torch multiplies one active expert after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moeprof.errors import KernelUnsupported
from moeprof.kernel.buffers import Buffers, allocate, refusal_of_data

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload


class TorchLoop:
    """Two matrix products per active expert, in fp32, bf16 or fp16, on the CPU or a GPU."""

    name = "torch-loop"

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        return refusal_of_data(workload, identity)

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data. Raises KernelUnsupported, DeviceOutOfMemory."""
        if (reason := self.refusal(workload, device.identity)) is not None:
            raise KernelUnsupported(f"{self.name}: {reason}", hint="Choose another kernel.")
        return LoopWork(allocate(workload, device, l2_state=l2_state, seed=seed))

    def versions(self) -> dict[str, str]:
        """Return torch's version."""
        return {"torch": torch.__version__}


class LoopWork:
    """The bound loop; every view it needs is made beforehand, so that a launch only multiplies."""

    def __init__(self, buffers: Buffers) -> None:
        self.buffers = buffers
        self.num_buffer_sets = buffers.num_buffer_sets
        self.l2_state: str = buffers.l2_state
        half = buffers.hidden.shape[1]
        self._gate, self._up = buffers.gate_up_out[:, :half], buffers.gate_up_out[:, half:]
        rows = _by_expert(buffers, buffers.rows)
        outputs = _by_expert(buffers, buffers.outputs)
        num_rows = [active.end_row - active.first_row for active in buffers.active]
        both, hidden = (
            buffers.gate_up_out.split_with_sizes(num_rows),
            buffers.hidden.split_with_sizes(num_rows),
        )
        gate_up, down = buffers.bank.gate_up_columns, buffers.bank.down_columns
        self._first, self._second = [], []
        for buffer_set, first_slot in enumerate(buffers.first_slots):
            slots = [first_slot + active.expert for active in buffers.active]
            weights = [gate_up[slot] for slot in slots]
            self._first.append(list(zip(rows[buffer_set], weights, both, strict=True)))
            weights = [down[slot] for slot in slots]
            self._second.append(list(zip(hidden, weights, outputs[buffer_set], strict=True)))

    def launch(self, buffer_set: int) -> None:
        """Compute one buffer set's outputs, without waiting for the device."""
        for rows, weights, out in self._first[buffer_set]:
            torch.mm(rows, weights, out=out)
        torch.nn.functional.silu(self._gate, inplace=True)
        torch.mul(self._gate, self._up, out=self.buffers.hidden)
        for rows, weights, out in self._second[buffer_set]:
            torch.mm(rows, weights, out=out)

    def output(self, buffer_set: int) -> Tensor:
        """Return `[num_rows, hidden_size]`, as the last launch left it; NaN before the first."""
        return self.buffers.outputs[buffer_set]


def _by_expert(buffers: Buffers, rows: Tensor) -> list[tuple[Tensor, ...]]:
    """Split `[num_buffer_sets, num_rows, hidden_size]` into each set's active experts."""
    num_rows = [active.end_row - active.first_row for active in buffers.active]
    parts = rows.flatten(0, 1).split_with_sizes(num_rows * buffers.num_buffer_sets)
    return [parts[at : at + len(num_rows)] for at in range(0, len(parts), len(num_rows))]
