"""FlashInfer's fused expert kernels of CUTLASS, tuned by its own autotuner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moeprof.kernel.bank import SCALE_BLOCK
from moeprof.kernel.engines.importing import Need, Package, load, missing, versions_of
from moeprof.kernel.engines.layouts import kept_layout, up_first
from moeprof.kernel.engines.limits import Limits, refusal_of_limits
from moeprof.kernel.engines.slots import global_slots, slots_of
from moeprof.kernel.engines.work import EngineWork, rehearse, token_buffers
from moeprof.kernel.protocol import Choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.buffers import Buffers
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

_CUTLASS = Need(
    "flashinfer.fused_moe",
    "cutlass_fused_moe",
    (
        "input",
        "token_selected_experts",
        "token_final_scales",
        "fc1_expert_weights",
        "fc2_expert_weights",
        "output_dtype",
        "quant_scales",
        "ep_size",
        "ep_rank",
        "output",
        "use_deepseek_fp8_block_scale",
        "tune_max_num_tokens",
    ),
)
_AUTOTUNE = Need("flashinfer.autotuner", "autotune")
_CUTLASS_PACKAGE = Package("flashinfer", "flashinfer-python", "0.7.2", (_CUTLASS, _AUTOTUNE))
# flashinfer/fused_moe/core.py of 0.7.2: block scales on compute capability 9.0 only.
_CUTLASS_LIMITS = Limits(
    majors={"bf16": (9, 10, 12), "fp16": (9, 10, 12), "fp8_block": (9,)},
    divisors={"bf16": 16, "fp16": 16, "fp8_block": SCALE_BLOCK},
)


class FlashInferCutlass:
    """`flashinfer.fused_moe.cutlass_fused_moe`, tuned by FlashInfer's own autotuner when bound."""

    name = "flashinfer-cutlass"

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        reason = refusal_of_limits(_CUTLASS_LIMITS, workload, identity)
        return reason or missing(_CUTLASS_PACKAGE)

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data. Raises KernelUnsupported, DeviceOutOfMemory."""
        buffers = token_buffers(self, workload, device, l2_state=l2_state, seed=seed)
        bank = buffers.bank
        gate_up = kept_layout(
            bank,
            "flashinfer-cutlass gate_up",
            lambda: up_first(bank.gate_up),
            device,
            extra_bytes=bank.gate_up.nbytes,
        )
        scales = bank.gate_up_scales
        swapped = None
        if scales is not None:
            swapped = kept_layout(
                bank,
                "flashinfer-cutlass scales",
                lambda: up_first(scales),
                device,
                extra_bytes=scales.nbytes,
            )
        run = _cutlass_call(buffers, gate_up, swapped)

        def tuning(buffer_set: int) -> Tensor:
            with load(_AUTOTUNE.module, _AUTOTUNE.attribute)():
                return run(buffer_set)

        rehearse(self, buffers, tuning, device)
        version = self.versions().get("flashinfer-python")
        return EngineWork(buffers, run, Choice(kernel="cutlass_fused_moe", version=version))

    def versions(self) -> dict[str, str]:
        """Return the versions of FlashInfer and torch."""
        return {**versions_of("flashinfer-python"), "torch": torch.__version__}


def _cutlass_call(
    buffers: Buffers, gate_up: Tensor, gate_up_scales: Tensor | None
) -> Callable[[int], Tensor]:
    """Return the call of one buffer set, from whole pools whose up projection comes first."""
    slots = slots_of(buffers)
    everywhere = global_slots(buffers, slots)
    num_local = buffers.workload.num_local_experts
    cutlass_fused_moe = load(_CUTLASS.module, _CUTLASS.attribute)
    # The autotuner tries every power of two up to this.
    tune_max_num_tokens = 1 << (buffers.tokens.shape[1] - 1).bit_length()

    def run(buffer_set: int) -> Tensor:
        first = buffers.first_slots[buffer_set]
        local = slice(first, first + num_local)
        scales = []
        if gate_up_scales is not None:
            scales = [gate_up_scales[local], buffers.down_scales(buffer_set)]
        output = buffers.outputs[buffer_set]
        cutlass_fused_moe(
            input=buffers.tokens[buffer_set],
            token_selected_experts=everywhere.experts,
            token_final_scales=slots.weights,
            fc1_expert_weights=gate_up[local],
            fc2_expert_weights=buffers.down(buffer_set),
            output_dtype=output.dtype,
            quant_scales=scales,
            ep_size=everywhere.ep_size,
            ep_rank=everywhere.ep_rank,
            output=output,
            use_deepseek_fp8_block_scale=gate_up_scales is not None,
            tune_max_num_tokens=tune_max_num_tokens,
        )
        return output

    return run
