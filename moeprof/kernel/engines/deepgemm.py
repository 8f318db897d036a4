"""DeepGEMM's masked grouped GEMM, with torch's operations before, between and after the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from moeprof.errors import DeviceOutOfMemory
from moeprof.kernel.bank import SCALE_BLOCK
from moeprof.kernel.engines.importing import Need, Package, load, missing, versions_of
from moeprof.kernel.engines.layouts import blocks
from moeprof.kernel.engines.limits import Limits, refusal_of_limits
from moeprof.kernel.engines.slots import slots_of
from moeprof.kernel.engines.work import EngineWork, rehearse, token_buffers
from moeprof.kernel.protocol import Choice

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.buffers import Buffers
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

# Compiled functions: their signatures are those of csrc/apis/gemm.hpp in DeepGEMM 2.6.1,
# (a, b, d, masked_m, expected_m), passed by position.
_FUNCTIONS = {
    "fp8_block": "m_grouped_fp8_gemm_nt_masked",
    "bf16": "m_grouped_bf16_gemm_nt_masked",
}
# On compute capability 10 its scales must be powers of two, which the format's are not.
_LIMITS = Limits(
    majors={"bf16": (9, 10), "fp8_block": (9,)},
    divisors={"bf16": 64, "fp8_block": SCALE_BLOCK},
)
# A tile of 64 or 128 rows is stored whole, over the next expert's rows were they closer
# (csrc/jit_kernels/heuristics/sm90.hpp, make_tma_cd_desc).
_ROW_TILE = 128
_FP8_MAX = 448.0


class DeepGemmMasked:
    """`deep_gemm.m_grouped_*_gemm_nt_masked`: FP8 on Hopper, bf16 on Hopper and Blackwell.

    DeepGEMM gives the two products; gathering, SwiGLU, quantising and combining are torch's, and
    are part of what is timed.
    """

    name = "deepgemm-masked"

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        if (reason := refusal_of_limits(_LIMITS, workload, identity)) is not None:
            return reason
        need = Need("deep_gemm", _FUNCTIONS[workload.weight_dtype], None)
        return missing(Package("deep_gemm", "deep_gemm", "2.6.1", (need,)))

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data. Raises KernelUnsupported, DeviceOutOfMemory."""
        buffers = token_buffers(self, workload, device, l2_state=l2_state, seed=seed)
        call = _Masked(buffers, device)
        rehearse(self, buffers, call.run, device)
        choice = Choice(
            kernel=_FUNCTIONS[workload.weight_dtype], version=self.versions().get("deep_gemm")
        )
        return EngineWork(buffers, call.run, choice)

    def versions(self) -> dict[str, str]:
        """Return the versions of DeepGEMM and torch."""
        return {**versions_of("deep_gemm"), "torch": torch.__version__}


@dataclass(frozen=True, slots=True)
class _Operand:
    """Rows of all experts, `[num_experts, padded_rows, size]`, with scales where they are fp8."""

    values: Tensor
    scales: Tensor | None

    @property
    def argument(self) -> Tensor | tuple[Tensor, Tensor]:
        """What DeepGEMM is given."""
        return self.values if self.scales is None else (self.values, self.scales)


class _Masked:
    """The padded workspaces, which all buffer sets share, and the calls on them."""

    def __init__(self, buffers: Buffers, device: Device) -> None:
        workload = buffers.workload
        sizes = (workload.layer.hidden_size, workload.local_expert_size)
        num_experts = workload.num_local_experts
        padded = -(-workload.max_rows_per_expert // _ROW_TILE) * _ROW_TILE
        quantised = buffers.bank.gate_up_scales is not None
        # Inputs of both products in at most two bytes a value, and both outputs in bf16.
        needed = 2 * num_experts * padded * (2 * sizes[0] + 3 * sizes[1])
        if (free := device.free_bytes()) < needed:
            raise DeviceOutOfMemory(
                f"deepgemm-masked's workspaces need {needed} bytes; {free} bytes are free on "
                f"{device.identity.name}",
                hint="Measure a smaller batch or a higher ep_size.",
            )
        where = buffers.tokens.device
        counts = torch.tensor(workload.rows_per_expert, dtype=torch.int32)
        experts = torch.repeat_interleave(torch.arange(num_experts), counts)
        starts = (counts.cumsum(0) - counts)[experts]
        self._buffers = buffers
        self._experts = experts.to(where)
        self._positions = (torch.arange(workload.num_rows) - starts).to(where)
        self._counts = counts.to(where)
        # What its engines pass: the mean over all experts, rounded up.
        self._expected = max(1, -(-workload.num_rows // num_experts))
        self._rows_in = _operand(num_experts, padded, sizes[0], where, quantised=quantised)
        self._hidden = _operand(num_experts, padded, sizes[1], where, quantised=quantised)
        shape = (num_experts, padded)
        self._gate_up = torch.zeros(*shape, 2 * sizes[1], dtype=torch.bfloat16, device=where)
        self._down = torch.zeros(*shape, sizes[0], dtype=torch.bfloat16, device=where)
        slots = slots_of(buffers)
        rows = buffers.token_rows.long().clamp(min=0)
        self._slots = self._experts[rows] * padded + self._positions[rows]
        self._slot_weights = slots.weights[:, :, None]
        self._row_tokens = buffers.row_tokens.long()
        self._gemm = load("deep_gemm", _FUNCTIONS[workload.weight_dtype])

    def run(self, buffer_set: int) -> Tensor:
        """Compute one buffer set's outputs `[num_tokens, hidden_size]`."""
        buffers = self._buffers
        self._fill(self._rows_in, buffers.tokens[buffer_set][self._row_tokens])
        gate_up = (buffers.gate_up(buffer_set), buffers.gate_up_scales(buffer_set))
        self._multiply(self._rows_in, gate_up, self._gate_up)
        gate, up = self._gate_up[self._experts, self._positions].chunk(2, dim=1)
        self._fill(self._hidden, functional.silu(gate) * up)
        down = (buffers.down(buffer_set), buffers.down_scales(buffer_set))
        self._multiply(self._hidden, down, self._down)
        by_slot = self._down.view(-1, self._down.shape[2])[self._slots]
        return buffers.outputs[buffer_set].copy_((by_slot * self._slot_weights).sum(dim=1))

    def _multiply(self, rows: _Operand, weights: tuple[Tensor, Tensor | None], out: Tensor) -> None:
        argument = weights[0] if weights[1] is None else weights
        self._gemm(rows.argument, argument, out, self._counts, self._expected)

    def _fill(self, operand: _Operand, rows: Tensor) -> None:
        """Write rows `[num_rows, size]`, sorted by expert, where DeepGEMM looks for them."""
        if operand.scales is None:
            operand.values[self._experts, self._positions] = rows
            return
        values, scales = _quantised(rows)
        # As bytes: torch writes no e4m3 through an index.
        into = operand.values.view(torch.uint8)
        into[self._experts, self._positions] = values.view(torch.uint8)
        operand.scales[self._experts, self._positions] = scales


def _operand(
    num_experts: int, num_rows: int, size: int, where: torch.device, *, quantised: bool
) -> _Operand:
    shape = (num_experts, num_rows, size)
    if not quantised:
        return _Operand(torch.zeros(shape, dtype=torch.bfloat16, device=where), None)
    # Scales of one column lie together, as the kernel reads them: others would be transposed by
    # a launch of DeepGEMM's every time.
    scales = torch.zeros(num_experts, blocks(size), num_rows, device=where).transpose(1, 2)
    values = torch.zeros(shape, dtype=torch.uint8, device=where).view(torch.float8_e4m3fn)
    return _Operand(values, scales)


def _quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows in e4m3 and a scale per 128 columns (arXiv 2412.19437, section 3.3)."""
    num_rows, size = rows.shape
    grouped = rows.view(num_rows, -1, SCALE_BLOCK).float()
    greatest = grouped.abs().amax(dim=2).clamp(min=torch.finfo(torch.float32).tiny * _FP8_MAX)
    scales = greatest / _FP8_MAX
    values = (grouped / scales[:, :, None]).to(torch.float8_e4m3fn)
    return values.view(num_rows, size), scales
