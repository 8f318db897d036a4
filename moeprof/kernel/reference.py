"""What a kernel's output must be, in float64 on the CPU, and how far it may be off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.kernel.buffers import Buffers

# A few times the rounding of three products whose intermediates are kept in the dtype: its unit
# roundoff is 6e-8, 5e-4 and 4e-3.
MAX_RELATIVE_ERROR = {"fp32": 5e-6, "fp16": 4e-3, "bf16": 3e-2}


class CheckableWork(Protocol):
    """Bound work whose data and output can be looked at."""

    buffers: Buffers

    def launch(self, buffer_set: int) -> None:
        """Compute the output of one buffer set."""

    def output(self, buffer_set: int) -> Tensor:
        """Return `[num_rows, hidden_size]`, NaN before the first launch."""


def reference_output(buffers: Buffers, buffer_set: int) -> Tensor:
    """Return `[num_rows, hidden_size]` in float64: down(silu(gate) * up), expert by expert."""
    rows = buffers.rows[buffer_set]
    gate_up, down = buffers.gate_up(buffer_set), buffers.down(buffer_set)
    output = torch.full(rows.shape, float("nan"), dtype=torch.float64)
    for active in buffers.active:
        span = slice(active.first_row, active.end_row)
        both = _exact(rows[span]) @ _exact(gate_up[active.expert]).t()
        gate, up = both.chunk(2, dim=1)
        hidden = torch.nn.functional.silu(gate) * up
        output[span] = hidden @ _exact(down[active.expert]).t()
    return output


def relative_error(work: CheckableWork, buffer_set: int) -> float:
    """Launch once and return the Frobenius norm of the error over that of the reference.

    NaN where the kernel left an output unwritten.
    """
    work.launch(buffer_set)
    exact = reference_output(work.buffers, buffer_set)
    off = _exact(work.output(buffer_set)) - exact
    return float(torch.linalg.vector_norm(off) / torch.linalg.vector_norm(exact))


def _exact(tensor: Tensor) -> Tensor:
    return tensor.to("cpu", torch.float64)
