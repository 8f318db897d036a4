"""A bound kernel's outputs compared with float64, with everything it writes poisoned first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from moeprof.kernel.reference import reference_output

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device
    from moeprof.kernel.check.work import CheckedWork

# The error of one row beside that of all: a norm over many rows hides a single wrong one.
_ROW_FACTOR: Final = 4.0
# A row that cancels to almost nothing is measured by this much of the typical row.
_LEAST_ROW_FRACTION: Final = 0.1


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far an output is off; `fault` says what is wrong with it, None: nothing."""

    relative_error_fraction: float | None
    fault: str | None


def compare_launches(work: CheckedWork, bound_fraction: float) -> Comparison:
    """Launch the first buffer set twice and the last one once, and return the worst of them.

    Twice, because a kernel that leaves its counters behind is right only once.
    """
    worst = 0.0
    last = work.num_buffer_sets - 1
    for buffer_set, num_launches in ((0, 2), (last, 1))[: 1 if last == 0 else 2]:
        # Before the launch: a kernel that damages its inputs must not be judged by the damage.
        exact = reference_output(work.buffers, buffer_set)
        for launch in range(num_launches):
            _poison(work, buffer_set, launched=launch > 0)
            work.launch(buffer_set)
            found = compare(work.output(buffer_set), exact, bound_fraction)
            if found.fault is not None:
                which = f"launch {launch + 1} of buffer set {buffer_set}: "
                told = which if launch or buffer_set else ""
                return Comparison(found.relative_error_fraction, told + found.fault)
            worst = max(worst, found.relative_error_fraction or 0.0)
    return Comparison(worst, None)


def compare_captured(work: CheckedWork, device: Device, bound_fraction: float) -> Comparison:
    """Run the work as a sample does, in a CUDA graph, and compare the first and last buffer set.

    Raises KernelUnsupported where it cannot be captured.
    """
    program = device.prepare(work)
    try:
        sets = dict.fromkeys((0, work.num_buffer_sets - 1))
        for buffer_set in sets:
            _poison(work, buffer_set, launched=True)
        torch.cuda.synchronize()  # the graph runs on another stream
        program.sample()
        worst = 0.0
        for buffer_set in sets:
            exact = reference_output(work.buffers, buffer_set)
            found = compare(work.output(buffer_set), exact, bound_fraction)
            if found.fault is not None:
                return Comparison(found.relative_error_fraction, f"in a graph: {found.fault}")
            worst = max(worst, found.relative_error_fraction or 0.0)
        return Comparison(worst, None)
    finally:
        program.close()


def compare(output: Tensor, exact: Tensor, bound_fraction: float) -> Comparison:
    """Compare one output with the exact one, float64, as a whole and row by row."""
    if output.shape != exact.shape:
        shapes = f"{tuple(output.shape)}, and must be {tuple(exact.shape)}"
        return Comparison(None, f"its output has the shape {shapes}")
    off = output.double() - exact
    if bad := int(off.numel() - torch.isfinite(off).sum()):
        return Comparison(None, f"{bad} of {off.numel()} values are unwritten or not finite")
    norms = torch.linalg.vector_norm(exact, dim=1)
    typical = float(norms.square().mean().sqrt())
    whole = float(torch.linalg.vector_norm(off)) / (typical * math.sqrt(norms.numel()))
    if whole > bound_fraction:
        return Comparison(whole, f"relative error {whole:.2g} exceeds {bound_fraction:g}")
    rows = torch.linalg.vector_norm(off, dim=1) / norms.clamp(min=_LEAST_ROW_FRACTION * typical)
    row = int(rows.argmax())
    if (error := float(rows[row])) > (limit := _ROW_FACTOR * bound_fraction):
        return Comparison(whole, f"relative error {error:.2g} of row {row} exceeds {limit:g}")
    return Comparison(whole, None)


def _poison(work: CheckedWork, buffer_set: int, *, launched: bool) -> None:
    """Fill with NaN what the launch must write: outputs, and the workspaces on the way to them."""
    buffers = work.buffers
    written = [buffers.outputs[buffer_set], buffers.gate_up_out, buffers.hidden]
    if launched:
        written.append(work.output(buffer_set))  # it may be a tensor of the kernel's own
    for tensor in written:
        if not tensor.is_inference():  # which torch forbids to change
            tensor.fill_(float("nan"))
