"""vLLM's fused experts, by a backend that is named or that its own oracle chooses."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from moeprof.kernel.bank import SCALE_BLOCK
from moeprof.kernel.engines import vllm_oracle as oracle
from moeprof.kernel.engines.importing import load, missing, versions_of
from moeprof.kernel.engines.limits import Limits, refusal_of_limits
from moeprof.kernel.engines.slots import global_slots, slots_of
from moeprof.kernel.engines.vllm_names import PACKAGE
from moeprof.kernel.engines.work import (
    MAX_RELATIVE_ERROR_OF_OTHER_FP8,
    EngineWork,
    engine_errors,
    rehearse,
    token_buffers,
)
from moeprof.kernel.protocol import Choice

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

_DIVISORS = {"bf16": 16, "fp16": 16, "fp8_block": SCALE_BLOCK}
# Which formats a backend has here; the oracle itself knows the rest.
_FORMATS = {
    "triton": ("bf16", "fp16", "fp8_block"),
    "flashinfer_cutlass": ("bf16", "fp16", "fp8_block"),
    "deep_gemm": ("fp8_block",),
    "marlin": ("fp8_block",),
    "auto": ("bf16", "fp16", "fp8_block"),
}
_FIRST_WORDS = 300


class VllmMoe:
    """vLLM's modular kernel of one rank, with the experts class that its oracle gives.

    It allocates its output in every launch, and shares one workspace among all. Slots on other
    ranks are left out by its own expert map.
    """

    def __init__(self, name: str, moe_backend: str) -> None:
        self.name = name
        self._moe_backend = moe_backend
        formats = _FORMATS[moe_backend]
        self._limits = Limits(dict.fromkeys(formats, ()), _DIVISORS)

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        reason = refusal_of_limits(self._limits, workload, identity) or missing(PACKAGE)
        if reason is not None:
            return reason
        try:
            ep_size, ep_rank = workload.ep_size, workload.ep_rank
            oracle.select(workload, self._moe_backend, ep_size=ep_size, ep_rank=ep_rank)
        except Exception as error:  # noqa: BLE001 - whatever its reason, it is the answer
            return f"vLLM's oracle: {str(error)[:_FIRST_WORDS]}"
        return None

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data. Raises KernelUnsupported, DeviceOutOfMemory."""
        buffers = token_buffers(self, workload, device, l2_state=l2_state, seed=seed)
        slots = slots_of(buffers)
        everywhere = global_slots(buffers, slots)
        with engine_errors(self, device):
            selection = oracle.select(
                workload, self._moe_backend, ep_size=everywhere.ep_size, ep_rank=everywhere.ep_rank
            )
            weights = oracle.weights_of(selection, buffers.bank, device)
            oracle.make_workspaces(buffers.outputs.device)
            kernels = oracle.kernels(selection, weights, buffers)
        silu = oracle.silu()

        def views(buffer_set: int) -> tuple[Tensor, Tensor]:
            first = buffers.first_slots[buffer_set]
            local = slice(first, first + workload.num_local_experts)
            return weights.gate_up[local], weights.down[local]

        def run(buffer_set: int) -> Tensor:
            w1, w2 = views(buffer_set)
            output: Tensor = kernels[buffer_set].apply(
                hidden_states=buffers.tokens[buffer_set],
                w1=w1,
                w2=w2,
                topk_weights=slots.weights,
                topk_ids=everywhere.experts,
                activation=silu,
                global_num_experts=everywhere.num_experts,
                expert_map=everywhere.expert_map,
                apply_router_weight_on_input=False,
            )
            return output

        def tuning(buffer_set: int) -> Tensor:
            with oracle.current_config(), _autotuning(selection.experts_class.__name__):
                return run(buffer_set)

        rehearse(self, buffers, tuning, device)
        inner = _inner_experts(kernels[0], buffers.tokens[0], *views(0))
        choice = Choice(
            kernel=inner,
            version=self.versions().get("vllm"),
            config_file=oracle.config_file(workload) if inner == "TritonExperts" else None,
        )
        bound = MAX_RELATIVE_ERROR_OF_OTHER_FP8 if selection.quantised else None
        return EngineWork(buffers, run, choice, max_relative_error=bound)

    def versions(self) -> dict[str, str]:
        """Return the versions of vLLM, what it calls, and torch."""
        found = versions_of("vllm", "flashinfer-python", "deep_gemm", "triton")
        return {**found, "torch": torch.__version__}


def _autotuning(experts_class: str) -> Any:
    """Return FlashInfer's autotuner where its kernels are chosen, as in vLLM's own warm-up."""
    if "FlashInfer" in experts_class or "TrtLlm" in experts_class:
        return load("flashinfer.autotuner", "autotune")()
    return nullcontext()


def _inner_experts(kernel: Any, tokens: Tensor, gate_up: Tensor, down: Tensor) -> str:
    """Return the class that runs: of two, the one that vLLM falls back to for this shape or not."""
    experts = kernel.fused_experts
    if hasattr(experts, "_select_experts_impl"):
        experts = experts._select_experts_impl(tokens, gate_up, down)  # noqa: SLF001 - the record
    return type(experts).__name__


VllmTriton = partial(VllmMoe, "vllm-triton", "triton")
VllmFlashInferCutlass = partial(VllmMoe, "vllm-flashinfer-cutlass", "flashinfer_cutlass")
VllmDeepGemm = partial(VllmMoe, "vllm-deepgemm", "deep_gemm")
VllmMarlin = partial(VllmMoe, "vllm-marlin", "marlin")
VllmAuto = partial(VllmMoe, "vllm-auto", "auto")
