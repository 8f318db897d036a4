"""The expert kernel's two products compared one by one with float64, on the same rounded inputs."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from moeprof.device.protocol import DeviceIdentity
from moeprof.kernel.reference import dequantised_weights, quantised_rows
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from moeprof.kernel.buffers import Buffers

CPU: Any = SimpleNamespace(
    identity=DeviceIdentity(kind="cpu", name="test CPU", uuid="CPU-test"),
    torch_device=torch.device("cpu"),
    l2_bytes=1000,  # so small that a second buffer set is seldom needed
    free_bytes=lambda: 10**9,
)


def workload(
    rows: tuple[int, ...], dtype: str, *, hidden_size: int, expert_size: int, batch_size: int = 4,
    top_k: int = 2,
) -> Workload:  # fmt: skip
    layer = MoELayer("l", hidden_size, expert_size, max(len(rows), top_k), top_k)
    return Workload("m", layer, dtype, dtype, batch_size, "given", 0, "none", 1, 0, 1, rows)


@dataclass(frozen=True)
class Stages:
    """Relative Frobenius errors: of hidden rows, beyond their rounding to bf16; of the weighted
    outputs by row, against float64 on the kernel's own hidden rows; of their sums by token, beyond
    rounding."""

    hidden: float
    row_outputs: float
    outputs: float


def stages(buffers: Buffers, row_outputs: torch.Tensor, buffer_set: int = 0) -> Stages:
    quantised = buffers.gate_up_scales(buffer_set) is not None
    hidden = torch.zeros(buffers.hidden.shape, dtype=torch.float64)
    by_row = torch.zeros(row_outputs.shape, dtype=torch.float64)
    for active in buffers.active:
        span = slice(active.first_row, active.end_row)
        rows, own = buffers.rows[buffer_set][span], buffers.hidden[span]
        first = dequantised_weights(
            buffers.gate_up, buffers.gate_up_scales, buffer_set, active.expert
        )
        second = dequantised_weights(buffers.down, buffers.down_scales, buffer_set, active.expert)
        inputs = quantised_rows(rows) if quantised else rows.double()
        gate, up = (inputs @ first.t()).chunk(2, 1)
        hidden[span] = torch.nn.functional.silu(gate) * up
        by_row[span] = (quantised_rows(own) if quantised else own.double()) @ second.t()
    by_row *= buffers.row_weights.double()[:, None]
    by_token = torch.zeros(buffers.outputs[buffer_set].shape, dtype=torch.float64)
    by_token.index_add_(0, buffers.row_tokens.long(), row_outputs.double())
    return Stages(
        hidden=beyond_rounding(buffers.hidden, hidden),
        row_outputs=relative(row_outputs, by_row),
        outputs=beyond_rounding(buffers.outputs[buffer_set], by_token),
    )


def relative(found: torch.Tensor, right: torch.Tensor) -> float:
    off = torch.linalg.vector_norm(found.double() - right.double())
    return float(off / torch.linalg.vector_norm(right.double()))


def beyond_rounding(found: torch.Tensor, right: torch.Tensor) -> float:
    """As `relative`, of what rounding to bf16 does not explain: its values are 2^-8 apart at most
    and half of that is right. A value next to a tie may be rounded either way."""
    half_step = torch.exp2(torch.frexp(right).exponent.double() - 9)
    off = ((found.double() - right).abs() - half_step).clamp(min=0)
    off = torch.where(found.isnan(), float("nan"), off)
    return float(torch.linalg.vector_norm(off) / torch.linalg.vector_norm(right))
