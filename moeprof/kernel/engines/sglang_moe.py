"""SGLang's Triton fused expert kernel, by the configuration that its own table gives."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from moeprof.kernel.bank import SCALE_BLOCK
from moeprof.kernel.engines.importing import Need, Package, load, missing, versions_of
from moeprof.kernel.engines.limits import Limits, refusal_of_limits
from moeprof.kernel.engines.slots import slots_of
from moeprof.kernel.engines.work import EngineWork, engine_errors, rehearse, token_buffers
from moeprof.kernel.protocol import Choice

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

_TRITON = "sglang.srt.layers.moe.moe_runner.triton_utils"
_FUSED_EXPERTS = Need(
    f"{_TRITON}.fused_moe",
    "fused_experts",
    (
        "hidden_states",
        "w1",
        "w2",
        "topk_output",
        "moe_runner_config",
        "use_fp8_w8a8",
        "w1_scale",
        "w2_scale",
        "block_shape",
    ),
)
_RUNNER_CONFIG = Need(
    "sglang.srt.layers.moe.moe_runner.base",
    "MoeRunnerConfig",
    (
        "num_experts",
        "num_local_experts",
        "hidden_size",
        "intermediate_size_per_partition",
        "top_k",
        "params_dtype",
        "activation",
        "is_gated",
        "inplace",
    ),
)
_TOPK = Need(
    "sglang.srt.layers.moe.topk",
    "StandardTopKOutput",
    ("topk_weights", "topk_ids", "router_logits"),
)
_FILE_NAME = Need(
    f"{_TRITON}.fused_moe_triton_config",
    "get_config_file_name",
    ("E", "N", "dtype", "block_shape"),
)
_CONFIGS = Need(
    f"{_TRITON}.fused_moe_triton_config",
    "get_moe_configs",
    ("E", "N", "dtype", "block_n", "block_k"),
)
_CONTEXT = "sglang.srt.runtime_context"
_PACKAGE = Package(
    "sglang",
    "sglang",
    "0.5.23",
    (
        _FUSED_EXPERTS,
        _RUNNER_CONFIG,
        _TOPK,
        _FILE_NAME,
        _CONFIGS,
        Need("sglang.srt.server_args", "ServerArgs"),
        Need(_CONTEXT, "publish", ("server_args", "role")),
        Need(_CONTEXT, "publish_role"),
        Need(_CONTEXT, "get_parallel"),
    ),
)
# Triton's e4m3 product begins with Ada, which is 8.9; what 8.0 lacks, SGLang says itself.
_LIMITS = Limits(
    majors={"bf16": (), "fp16": (), "fp8_block": ()},
    divisors={"bf16": 16, "fp16": 16, "fp8_block": SCALE_BLOCK},
)


class SGLangTriton:
    """SGLang's `fused_experts`; it allocates what it computes in every launch.

    A slot whose expert is on another rank is -1, as in its own expert parallelism.
    """

    name = "sglang-triton"

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        return refusal_of_limits(_LIMITS, workload, identity) or missing(_PACKAGE)

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data. Raises KernelUnsupported, DeviceOutOfMemory."""
        buffers = token_buffers(self, workload, device, l2_state=l2_state, seed=seed)
        with engine_errors(self, device):
            _publish()
        slots = slots_of(buffers)
        num_local = workload.num_local_experts
        # It looks for absent slots only where these two differ.
        num_experts = max(num_local * workload.ep_size, num_local + min(slots.num_absent, 1))
        config = load(_RUNNER_CONFIG.module, _RUNNER_CONFIG.attribute)(
            num_experts=num_experts,
            num_local_experts=num_local,
            hidden_size=workload.layer.hidden_size,
            intermediate_size_per_partition=workload.local_expert_size,
            top_k=workload.layer.top_k,
            params_dtype=buffers.tokens.dtype,
            activation="silu",
            is_gated=True,
            inplace=False,
        )
        topk = load(_TOPK.module, _TOPK.attribute)(
            topk_weights=slots.weights,
            topk_ids=slots.experts,
            # What has been routed is not routed again.
            router_logits=None,
        )
        fused_experts = load(_FUSED_EXPERTS.module, _FUSED_EXPERTS.attribute)
        quantised = buffers.bank.gate_up_scales is not None

        def run(buffer_set: int) -> Tensor:
            output: Tensor = fused_experts(
                hidden_states=buffers.tokens[buffer_set],
                w1=buffers.gate_up(buffer_set),
                w2=buffers.down(buffer_set),
                topk_output=topk,
                moe_runner_config=config,
                use_fp8_w8a8=quantised,
                w1_scale=buffers.gate_up_scales(buffer_set),
                w2_scale=buffers.down_scales(buffer_set),
                block_shape=[SCALE_BLOCK, SCALE_BLOCK] if quantised else None,
            )
            return output

        rehearse(self, buffers, run, device)
        choice = Choice(
            kernel="fused_moe_triton",
            version=self.versions().get("sglang"),
            config_file=_config_file(workload, quantised=quantised),
        )
        return EngineWork(buffers, run, choice)

    def versions(self) -> dict[str, str]:
        """Return the versions of SGLang, its kernels, Triton and torch."""
        found = versions_of("sglang", "sglang-kernel", "sgl-kernel", "triton")
        return {**found, "torch": torch.__version__}


@cache
def _publish() -> None:
    """Give SGLang the context of a server of one rank without a model, unless it has one."""
    if load(_CONTEXT, "publish_role")() is not None:
        return
    arguments: Any = load("sglang.srt.server_args", "ServerArgs")(model_path="dummy")
    load(_CONTEXT, "publish")(server_args=arguments, role="scheduler")
    # It asks the group for its size only, before it allocates an output.
    load(_CONTEXT, "get_parallel")().override_permanently(tp_group=SimpleNamespace(world_size=1))


def _config_file(workload: Workload, *, quantised: bool) -> str | None:
    """Return the name of the tuned table that SGLang found for this shape, or None."""
    block = SCALE_BLOCK if quantised else 0
    shape = {
        "E": workload.num_local_experts,
        "N": workload.local_expert_size,
        "dtype": "fp8_w8a8" if quantised else None,
    }
    if load(_CONFIGS.module, _CONFIGS.attribute)(**shape, block_n=block, block_k=block) is None:
        return None
    name: str = load(_FILE_NAME.module, _FILE_NAME.attribute)(**shape, block_shape=[block, block])
    return name
