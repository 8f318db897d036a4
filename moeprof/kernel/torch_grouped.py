"""All experts in two launches of torch's own grouped matrix product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from moeprof.device.torch_dtypes import TORCH_DTYPES
from moeprof.errors import KernelUnsupported
from moeprof.kernel.buffers import Buffers, allocate, refusal_of_data

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

# Conditions of torch's grouped_mm (ATen/native/GroupedMMUtils.h, cuda/GroupedBlas.cpp and
# cuda/GroupMM.cu of torch 2.10): strides in 16 bytes everywhere; on CUDA one kernel, for bf16 on
# compute capability 9 and 10, with fewer than 1024 groups. Elsewhere it falls back to a loop that
# copies the offsets to the host, which a CUDA graph cannot hold.
_STRIDE_BYTES = 16
_CUDA_MAJORS = ("9", "10")
_CUDA_MAX_GROUPS = 1023


class TorchGrouped:
    """`torch.nn.functional.grouped_mm`: fp32, bf16, fp16 on the CPU; bf16 on Hopper, Blackwell."""

    name = "torch-grouped"

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        if (reason := refusal_of_data(workload, identity)) is not None:
            return reason
        if not hasattr(functional, "grouped_mm"):
            return f"torch {torch.__version__} has no grouped_mm; 2.10 has"
        step = _STRIDE_BYTES // TORCH_DTYPES[workload.weight_dtype].itemsize
        sizes = (workload.layer.hidden_size, workload.local_expert_size)
        if any(size % step for size in sizes):
            return (
                f"grouped_mm needs hidden and local expert sizes that are multiples of {step} in "
                f"{workload.weight_dtype}, got {sizes[0]} and {sizes[1]}"
            )
        return _cuda_refusal(workload, identity) if identity.kind == "cuda" else None

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data. Raises KernelUnsupported, DeviceOutOfMemory."""
        if (reason := self.refusal(workload, device.identity)) is not None:
            raise KernelUnsupported(f"{self.name}: {reason}", hint="Choose torch-loop.")
        return GroupedWork(allocate(workload, device, l2_state=l2_state, seed=seed))

    def versions(self) -> dict[str, str]:
        """Return torch's version."""
        return {"torch": torch.__version__}


class GroupedWork:
    """The bound grouped products; torch allocates their outputs in every launch."""

    def __init__(self, buffers: Buffers) -> None:
        self.buffers = buffers
        self.num_buffer_sets = buffers.num_buffer_sets
        self.l2_state: str = buffers.l2_state
        self._half = buffers.hidden.shape[1]
        sets = range(self.num_buffer_sets)
        self._rows = buffers.rows.unbind(0)
        self._gate_up = [buffers.gate_up(s).transpose(1, 2) for s in sets]
        self._down = [buffers.down(s).transpose(1, 2) for s in sets]
        self._outputs = list(buffers.outputs.unbind(0))

    def launch(self, buffer_set: int) -> None:
        """Compute one buffer set's outputs, without waiting for the device."""
        ends = self.buffers.row_ends
        both = functional.grouped_mm(self._rows[buffer_set], self._gate_up[buffer_set], offs=ends)
        gate = functional.silu(both[:, : self._half], inplace=True)
        hidden = torch.mul(gate, both[:, self._half :], out=self.buffers.hidden)
        self._outputs[buffer_set] = functional.grouped_mm(hidden, self._down[buffer_set], offs=ends)

    def output(self, buffer_set: int) -> Tensor:
        """Return `[num_rows, hidden_size]`, as the last launch left it; NaN before the first."""
        return self._outputs[buffer_set]


def _cuda_refusal(workload: Workload, identity: DeviceIdentity) -> str | None:
    if workload.weight_dtype != "bf16":
        return f"grouped_mm has a CUDA kernel for bf16 only, not for {workload.weight_dtype}"
    capability = identity.versions.get("capability", "unknown")
    if capability.partition(".")[0] not in _CUDA_MAJORS:
        return f"grouped_mm's CUDA kernel needs compute capability 9 or 10, this is {capability}"
    if workload.num_local_experts > _CUDA_MAX_GROUPS:
        return f"grouped_mm takes {_CUDA_MAX_GROUPS} experts, got {workload.num_local_experts}"
    return None
