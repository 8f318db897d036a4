"""The experts of Transformers, by each of the ways in which its ExpertsInterface runs them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from moeprof.errors import DeviceOutOfMemory
from moeprof.kernel.buffers import refusal_of_data
from moeprof.kernel.engines.importing import Need, Package, load, missing, versions_of
from moeprof.kernel.engines.slots import slots_of
from moeprof.kernel.engines.work import EngineWork, token_buffers
from moeprof.kernel.protocol import Choice
from moeprof.kernel.torch_grouped import TorchGrouped

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.buffers import Buffers
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

# Qwen3's experts are the plain form: gate first, no bias, not transposed.
_MODEL = "transformers.models.qwen3_moe."
_EXPERTS = Need(f"{_MODEL}modeling_qwen3_moe", "Qwen3MoeExperts", ("config",))
_CONFIG = Need(f"{_MODEL}configuration_qwen3_moe", "Qwen3MoeConfig")
_PASSED = ("self", "hidden_states", "top_k_index", "top_k_weights")
_FUNCTIONS = {
    "grouped": "grouped_mm_experts_forward",
    "batched": "batched_mm_experts_forward",
}


class TransformersExperts:
    """Qwen3's experts module of Transformers on the shared weights.

    Transformers allocates what it computes in every launch. An expert of another rank is the
    number of local experts, as its own expert parallelism has it.
    """

    def __init__(self, way: str) -> None:
        self.name = f"transformers-{way}"
        self._way = way
        needs: tuple[Need, ...] = (_EXPERTS, _CONFIG)
        if way in _FUNCTIONS:
            needs = (*needs, Need("transformers.integrations.moe", _FUNCTIONS[way], _PASSED))
        self._package = Package("transformers", "transformers", "5.23", needs)

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        if (reason := refusal_of_data(workload, identity)) is not None:
            return reason
        if identity.kind == "cuda":
            if self._way == "eager":
                return "it waits for the GPU in every launch, which a CUDA graph cannot hold"
            if self._way == "grouped":
                reason = TorchGrouped().refusal(workload, identity)
        return reason or missing(self._package)

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data. Raises KernelUnsupported, DeviceOutOfMemory."""
        buffers = token_buffers(self, workload, device, l2_state=l2_state, seed=seed)
        slots = slots_of(buffers)
        if self._way == "batched":
            _make_sure_of_copies(buffers, device)
        absent = slots.experts < 0
        indices = torch.where(absent, workload.num_local_experts, slots.experts).long()
        modules = [
            self._module(buffers, buffer_set, parallel=slots.num_absent > 0)
            for buffer_set in range(buffers.num_buffer_sets)
        ]

        def run(buffer_set: int) -> Tensor:
            with torch.no_grad():
                output: Tensor = modules[buffer_set](
                    buffers.tokens[buffer_set], indices, slots.weights
                )
            return output

        kernel = _FUNCTIONS.get(self._way, "Qwen3MoeExperts.forward")
        choice = Choice(kernel=kernel, version=self.versions().get("transformers"))
        return EngineWork(buffers, run, choice)

    def versions(self) -> dict[str, str]:
        """Return the versions of Transformers and torch."""
        return {**versions_of("transformers"), "torch": torch.__version__}

    def _module(self, buffers: Buffers, buffer_set: int, *, parallel: bool) -> Any:
        """Return an experts module whose parameters are one buffer set's views."""
        workload = buffers.workload
        config = load(_CONFIG.module, _CONFIG.attribute)(
            num_experts=workload.num_local_experts,
            num_experts_per_tok=workload.layer.top_k,
            hidden_size=workload.layer.hidden_size,
            moe_intermediate_size=workload.local_expert_size,
            hidden_act="silu",
        )
        config._experts_implementation = "eager" if self._way == "eager" else f"{self._way}_mm"  # noqa: SLF001
        with torch.device("meta"):
            module = load(_EXPERTS.module, _EXPERTS.attribute)(config)
        for name, weights in (
            ("gate_up_proj", buffers.gate_up(buffer_set)),
            ("down_proj", buffers.down(buffer_set)),
        ):
            setattr(module, name, torch.nn.Parameter(weights, requires_grad=False))
        module._is_expert_parallel = parallel  # noqa: SLF001 - set by its own parallelism
        return module


def _make_sure_of_copies(buffers: Buffers, device: Device) -> None:
    """Raise DeviceOutOfMemory where a copy of an expert's weights for every slot does not fit."""
    needed = buffers.token_rows.numel() * buffers.workload.bytes_per_expert
    if (free := device.free_bytes()) < needed:
        raise DeviceOutOfMemory(
            f"transformers-batched copies an expert's weights for each of "
            f"{buffers.token_rows.numel()} slots, {needed} bytes; {free} bytes are free on "
            f"{device.identity.name}",
            hint="Measure a smaller batch, or transformers-grouped.",
        )


TransformersGrouped = partial(TransformersExperts, "grouped")
TransformersBatched = partial(TransformersExperts, "batched")
TransformersEager = partial(TransformersExperts, "eager")
