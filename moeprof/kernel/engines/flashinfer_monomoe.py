"""FlashInfer's MonoMoE: one launch for a small batch of one shape, its own routing included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moeprof.kernel.assignment import assign
from moeprof.kernel.engines.importing import Need, Package, load, missing, versions_of
from moeprof.kernel.engines.layouts import kept_layout
from moeprof.kernel.engines.limits import Limits, refusal_of_limits
from moeprof.kernel.engines.slots import slots_of
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
    from moeprof.kernel.engines.slots import Slots
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

_MONO = Need(
    "flashinfer.fused_moe.monomoe",
    "mono_moe",
    (
        "activations_in",
        "router_logits",
        "expert_weights_up",
        "expert_scales_up",
        "expert_weights_down",
        "expert_scales_down",
        "top_k",
        "scoring_func",
        "renormalize",
        "out",
        "scratchpad",
        "interleave_up",
    ),
)
_INTERLEAVE = Need("flashinfer.fused_moe.monomoe", "interleave_for_tma_wgmma_up", ("w_fp8",))
_SCRATCHPAD = Need("flashinfer.fused_moe.monomoe", "alloc_scratchpad", ("device",))
_MONO_PACKAGE = Package(
    "flashinfer", "flashinfer-python", "0.7.2", (_MONO, _INTERLEAVE, _SCRATCHPAD)
)
_MONO_LIMITS = Limits(majors={"fp8_block": (9,)}, divisors={})
# What flashinfer/fused_moe/monomoe.py of 0.7.2 is specialised to.
_MONO_SHAPE = (256, 512, 2048)
_MONO_MAX_TOKENS = 8
_MONO_MAX_TOP_K = 8
# exp of it is zero beside the logarithm of any weight, and bf16 holds it.
_NEVER = -30_000.0


class FlashInferMonoMoe:
    """`flashinfer.fused_moe.monomoe.mono_moe`: routing, experts and combination in one launch.

    It routes by itself, so its logits are the logarithms of the slots' weights, in bf16; that
    routing is part of what is timed.
    """

    name = "flashinfer-monomoe"

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        reason = refusal_of_limits(_MONO_LIMITS, workload, identity) or _mono_refusal(workload)
        return reason or missing(_MONO_PACKAGE)

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data. Raises KernelUnsupported, DeviceOutOfMemory."""
        buffers = token_buffers(self, workload, device, l2_state=l2_state, seed=seed)
        bank, num_local = buffers.bank, workload.num_local_experts
        interleave = load(_INTERLEAVE.module, _INTERLEAVE.attribute)
        # The function leaves its result on the tensor that it is given; on a view of the bank's
        # it goes with the view. It builds halves first: twice the pool for a moment.
        interleaved: Tensor = kept_layout(
            bank,
            "flashinfer-monomoe gate_up",
            lambda: interleave(bank.gate_up.view(bank.gate_up.shape)),
            device,
            extra_bytes=2 * bank.gate_up.nbytes,
        )
        logits = _logits(slots_of(buffers), num_local)
        # The first of its functions that compiles the kernel.
        with engine_errors(self, device):
            scratchpad = load(_SCRATCHPAD.module, _SCRATCHPAD.attribute)(buffers.outputs.device)
        mono_moe = load(_MONO.module, _MONO.attribute)

        def run(buffer_set: int) -> Tensor:
            first = buffers.first_slots[buffer_set]
            output: Tensor = mono_moe(
                activations_in=buffers.tokens[buffer_set],
                router_logits=logits,
                expert_weights_up=interleaved[first : first + num_local],
                expert_scales_up=buffers.gate_up_scales(buffer_set),
                expert_weights_down=buffers.down(buffer_set),
                expert_scales_down=buffers.down_scales(buffer_set),
                top_k=workload.layer.top_k,
                scoring_func="softmax",
                renormalize=True,
                out=buffers.outputs[buffer_set],
                scratchpad=scratchpad,
                interleave_up=False,
            )
            return output

        rehearse(self, buffers, run, device)
        choice = Choice(kernel="mono_moe", version=self.versions().get("flashinfer-python"))
        return EngineWork(buffers, run, choice, max_relative_error=MAX_RELATIVE_ERROR_OF_OTHER_FP8)

    def versions(self) -> dict[str, str]:
        """Return the versions of FlashInfer and torch."""
        return {**versions_of("flashinfer-python"), "torch": torch.__version__}


def _mono_refusal(workload: Workload) -> str | None:
    shape = (workload.num_local_experts, workload.local_expert_size, workload.layer.hidden_size)
    if shape != _MONO_SHAPE:
        return f"it takes experts, expert size and hidden size {_MONO_SHAPE} only, got {shape}"
    assignment = assign(workload)
    if assignment.num_tokens > _MONO_MAX_TOKENS:
        return f"it takes {_MONO_MAX_TOKENS} tokens at most, got {assignment.num_tokens}"
    if workload.layer.top_k > _MONO_MAX_TOP_K:
        return f"it takes top_k up to {_MONO_MAX_TOP_K}, got {workload.layer.top_k}"
    if (assignment.topk_experts < 0).any():
        return "it routes by itself, so all top_k experts of every token must be on this rank"
    return None


def _logits(slots: Slots, num_experts: int) -> Tensor:
    """Return bf16 `[num_tokens, num_experts]`; the softmax of its top k is the slots' weights."""
    logits = torch.full((slots.experts.shape[0], num_experts), _NEVER, device=slots.experts.device)
    return logits.scatter_(1, slots.experts.long(), slots.weights.log()).to(torch.bfloat16)
