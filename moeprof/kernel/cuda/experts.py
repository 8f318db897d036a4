"""Bound data as the expert kernels' arguments, one structure for each buffer set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moeprof.kernel.cuda.arguments import ExpertArguments

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.kernel.buffers import Buffers


@dataclass(frozen=True, slots=True)
class Scratch:
    """What a launch writes besides its outputs; all buffer sets share it.

    `row_outputs` is fp32 `[num_rows, hidden_size]`, `partials` fp32, `counters` int32 and zero.
    """

    row_outputs: Tensor
    partials: Tensor
    counters: Tensor


def make_scratch(buffers: Buffers, *, num_partials: int, num_counters: int) -> Scratch:
    """Allocate what a kernel needs for these buffers, on their device."""
    where = buffers.tokens.device
    num_rows, hidden_size = buffers.rows.shape[1:]
    return Scratch(
        row_outputs=torch.empty(num_rows, hidden_size, dtype=torch.float32, device=where),
        partials=torch.empty(num_partials, dtype=torch.float32, device=where),
        counters=torch.zeros(num_counters, dtype=torch.int32, device=where),
    )


def expert_arguments(buffers: Buffers, scratch: Scratch, buffer_set: int) -> ExpertArguments:
    """Return a launch's arguments: addresses into tensors that the caller keeps alive."""
    assert buffers.combined, "the expert kernels write outputs by token"
    workload = buffers.workload
    return ExpertArguments(
        tokens=buffers.tokens[buffer_set].data_ptr(),
        gate_up=buffers.gate_up(buffer_set).data_ptr(),
        down=buffers.down(buffer_set).data_ptr(),
        gate_up_scales=_address(buffers.gate_up_scales(buffer_set)),
        down_scales=_address(buffers.down_scales(buffer_set)),
        row_ends=buffers.row_ends.data_ptr(),
        row_tokens=buffers.row_tokens.data_ptr(),
        row_weights=buffers.row_weights.data_ptr(),
        token_rows=buffers.token_rows.data_ptr(),
        hidden=buffers.hidden.data_ptr(),
        row_outputs=scratch.row_outputs.data_ptr(),
        outputs=buffers.outputs[buffer_set].data_ptr(),
        partials=scratch.partials.data_ptr(),
        counters=scratch.counters.data_ptr(),
        num_experts=workload.num_local_experts,
        num_tokens=buffers.tokens.shape[1],
        top_k=workload.layer.top_k,
        hidden_size=workload.layer.hidden_size,
        expert_size=workload.local_expert_size,
        num_rows=workload.num_rows,
    )


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
