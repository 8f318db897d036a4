"""What a kernel's output must be, in float64, and how far it may be off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from moeprof.kernel.bank import SCALE_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from moeprof.kernel.buffers import Buffers

# A few times the rounding of three products whose intermediates are kept in the dtype: its unit
# roundoff is 6e-8, 5e-4 and 4e-3. With fp8, whose unit roundoff is 6e-2, what is left is that
# rows quantised from slightly different values fall on the neighbouring one now and then.
MAX_RELATIVE_ERROR = {"fp32": 5e-6, "fp16": 4e-3, "bf16": 3e-2, "fp8_block": 3e-2}
_FP8_MAX = 448.0


class CheckableWork(Protocol):
    """Bound work whose data and output can be looked at."""

    buffers: Buffers

    def launch(self, buffer_set: int) -> None:
        """Compute the output of one buffer set."""

    def output(self, buffer_set: int) -> Tensor:
        """Return `[num_rows, hidden_size]`, or by token where buffers say so; NaN before."""


def reference_output(buffers: Buffers, buffer_set: int) -> Tensor:
    """Return what `output` should be, in float64 on the buffers' device: down(silu(gate) * up).

    With fp8 weights rows are quantised before each product, as the format says.
    """
    quantised = buffers.gate_up_scales(buffer_set) is not None
    rows = buffers.rows[buffer_set]
    output = torch.full(rows.shape, float("nan"), dtype=torch.float64, device=rows.device)
    for active in buffers.active:
        span = slice(active.first_row, active.end_row)
        weights = dequantised_weights(
            buffers.gate_up, buffers.gate_up_scales, buffer_set, active.expert
        )
        inputs = quantised_rows(rows[span]) if quantised else rows[span].double()
        gate, up = (inputs @ weights.t()).chunk(2, dim=1)
        hidden = torch.nn.functional.silu(gate) * up
        if quantised:
            hidden = quantised_rows(hidden.to(torch.bfloat16))
        down = dequantised_weights(buffers.down, buffers.down_scales, buffer_set, active.expert)
        output[span] = hidden @ down.t()
    return combine(buffers, output) if buffers.combined else output


def combine(buffers: Buffers, by_row: Tensor) -> Tensor:
    """Return float64 `[num_tokens, hidden_size]`: each token's rows, weighted and added."""
    combined = torch.zeros(
        buffers.tokens.shape[1], by_row.shape[1], dtype=torch.float64, device=by_row.device
    )
    weighted = by_row.double() * buffers.row_weights.double()[:, None]
    return combined.index_add_(0, buffers.row_tokens.long(), weighted)


def quantised_rows(rows: Tensor) -> Tensor:
    """Return rows `[num_rows, size]` as e4m3 with a scale per 128 columns makes them, in float64.

    A block's greatest magnitude becomes e4m3's maximum of 448 (DeepSeek-V3, arXiv 2412.19437,
    section 3.3); scales are computed in fp32, as on a GPU.
    """
    num_rows, size = rows.shape
    padded = torch.nn.functional.pad(rows.float(), (0, -size % SCALE_BLOCK))
    blocks = padded.view(num_rows, -1, SCALE_BLOCK)
    greatest = blocks.abs().amax(dim=2, keepdim=True)
    # Tensor by tensor: a number by a tensor would be the rounded reciprocal times the number.
    to_fp8 = torch.full_like(greatest, _FP8_MAX) / greatest
    to_fp8 = torch.where(greatest > 0, to_fp8, 0.0)
    held = (blocks * to_fp8).to(torch.float8_e4m3fn).double()
    scales = (greatest * (1.0 / _FP8_MAX)).double()
    return (held * scales).view(num_rows, -1)[:, :size]


def relative_error(work: CheckableWork, buffer_set: int) -> float:
    """Launch once and return the Frobenius norm of the error over that of the reference.

    NaN where the kernel left an output unwritten.
    """
    work.launch(buffer_set)
    exact = reference_output(work.buffers, buffer_set)
    off = work.output(buffer_set).double() - exact
    return float(torch.linalg.vector_norm(off) / torch.linalg.vector_norm(exact))


def dequantised_weights(
    pool: Callable[[int], Tensor],
    scales: Callable[[int], Tensor | None],
    buffer_set: int,
    expert: int,
) -> Tensor:
    """Return one expert's weights in float64, `[rows, columns]`, scaled where they have scales.

    `pool` and `scales` are the methods of Buffers, such as `gate_up` and `gate_up_scales`.
    """
    weights = pool(buffer_set)[expert].double()
    if (blocks := scales(buffer_set)) is None:
        return weights
    rows, columns = weights.shape
    spread = blocks[expert].double().repeat_interleave(SCALE_BLOCK, 0)[:rows]
    return weights * spread.repeat_interleave(SCALE_BLOCK, 1)[:, :columns]
