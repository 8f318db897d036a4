"""What vLLM's own oracle chooses for a layer: the experts class and the order of its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from moeprof.device.torch_dtypes import ACTIVATION_TORCH_DTYPES
from moeprof.kernel.bank import SCALE_BLOCK
from moeprof.kernel.engines.importing import load
from moeprof.kernel.engines.layouts import kept_layout, weight_bytes
from moeprof.kernel.engines.vllm_names import CONFIG, FP8, KEYS, MOE, PLAIN, WORKSPACE

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device
    from moeprof.kernel.bank import WeightBank
    from moeprof.kernel.buffers import Buffers
    from moeprof.workload.workload import Workload

# Backends that take weights as checkpoints have them.
_AS_THEY_ARE = ("TRITON", "VLLM_CUTLASS")
_BLOCK_SHAPE = [SCALE_BLOCK, SCALE_BLOCK]


@dataclass(frozen=True, slots=True)
class Selection:
    """vLLM's `FusedMoEConfig`, and the backend and experts class that its oracle chose for it."""

    config: Any
    backend: Any
    experts_class: Any
    quantised: bool


@dataclass(frozen=True, slots=True)
class Weights:
    """Pools of all slots in the backend's order: `[num_slots, ...]` each; scales None if plain."""

    gate_up: Tensor
    down: Tensor
    gate_up_scales: Tensor | None
    down_scales: Tensor | None


def select(workload: Workload, moe_backend: str, *, ep_size: int, ep_rank: int) -> Selection:
    """Ask the oracle for a backend: `auto`, or by the name that vLLM's `moe_backend` has.

    Backends that route by themselves are left out: slots come from the workload.

    Raises:
        ValueError: vLLM's own, this backend cannot run such a layer here.
        NotImplementedError: vLLM's own, no backend can.

    """
    config = _layer(workload, moe_backend, ep_size=ep_size, ep_rank=ep_rank)
    quantised = workload.weight_dtype == "fp8_block"
    with current_config():
        if quantised:
            backend, experts_class = load(FP8, "select_fp8_moe_backend")(
                config=config,
                weight_key=load(KEYS, "kFp8Static128BlockSym"),
                activation_key=load(KEYS, "kFp8Dynamic128Sym"),
            )
        else:
            backend, experts_class = load(PLAIN, "select_unquantized_moe_backend")(
                moe_config=config
            )
    if experts_class is None:
        raise ValueError(f"vLLM's oracle chose {backend.value}, which has no experts class")
    return Selection(config, backend, experts_class, quantised)


def weights_of(selection: Selection, bank: WeightBank, device: Device) -> Weights:
    """Return the bank's pools as the backend takes them, the bank's own where it can.

    Raises DeviceOutOfMemory.
    """
    if selection.backend.name in _AS_THEY_ARE:
        return Weights(bank.gate_up, bank.down, bank.gate_up_scales, bank.down_scales)
    # Some conversions write into what they are given, so they are given a copy; and their
    # result is another.
    return kept_layout(
        bank,
        f"vllm {selection.backend.name}",
        lambda: _converted(selection, bank),
        device,
        extra_bytes=2 * weight_bytes(bank),
    )


def kernels(selection: Selection, weights: Weights, buffers: Buffers) -> list[Any]:
    """Return vLLM's modular kernel of every buffer set: the same one where there are no scales."""
    config, experts_class = selection.config, selection.experts_class
    with current_config():
        if not selection.quantised:
            kernel = load(PLAIN, "make_unquantized_moe_kernel")(
                quant_config=load(CONFIG, "FUSED_MOE_UNQUANTIZED_CONFIG"),
                moe_config=config,
                backend=selection.backend,
                experts_cls=experts_class,
            )
            return [kernel] * buffers.num_buffer_sets
        assert weights.gate_up_scales is not None
        assert weights.down_scales is not None
        made = []
        for first in buffers.first_slots:
            local = slice(first, first + buffers.workload.num_local_experts)
            quant_config = load(FP8, "make_fp8_moe_quant_config")(
                fp8_backend=selection.backend,
                w1_scale=weights.gate_up_scales[local],
                w2_scale=weights.down_scales[local],
                a1_scale=None,
                a2_scale=None,
                block_shape=_BLOCK_SHAPE,
            )
            made.append(
                load(FP8, "make_fp8_moe_kernel")(
                    moe_quant_config=quant_config,
                    moe_config=config,
                    experts_cls=experts_class,
                    fp8_backend=selection.backend,
                )
            )
        return made


def make_workspaces(where: Any) -> None:
    """Give vLLM the workspace that its kernels share, unless it has one."""
    if not load(WORKSPACE, "is_workspace_manager_initialized")():
        load(WORKSPACE, "init_workspace_manager")(device=where)


def config_file(workload: Workload) -> str | None:
    """Return the name of the tuned table that vLLM's Triton kernel reads, or None."""
    quantised = workload.weight_dtype == "fp8_block"
    shape = {
        "E": workload.num_local_experts,
        "N": workload.local_expert_size,
        "dtype": "fp8_w8a8" if quantised else None,
    }
    block = SCALE_BLOCK if quantised else 0
    module = f"{MOE}fused_moe"
    if load(module, "get_moe_configs")(**shape, block_n=block, block_k=block) is None:
        return None
    name: str = load(module, "get_config_file_name")(
        **shape, block_shape=_BLOCK_SHAPE if quantised else None
    )
    return name


def silu() -> Any:
    """Return vLLM's name for SwiGLU's activation."""
    return load(f"{MOE}activation", "MoEActivation").SILU


def current_config() -> Any:
    """Return a context in which vLLM finds a configuration, without a model."""
    return load("vllm.config", "set_current_vllm_config")(vllm_config=_default_config())


@cache
def _default_config() -> Any:
    return load("vllm.config", "VllmConfig")()


def _layer(workload: Workload, moe_backend: str, *, ep_size: int, ep_rank: int) -> Any:
    """Return `FusedMoEConfig` of one rank; tensor parallelism shows in the expert size alone."""
    num_local = workload.num_local_experts
    parallel = load(CONFIG, "FusedMoEParallelConfig").make_no_parallel()
    if ep_size > 1:
        parallel = replace(parallel, ep_size=ep_size, ep_rank=ep_rank, use_ep=True)
    return load(CONFIG, "FusedMoEConfig")(
        num_experts=num_local * ep_size,
        experts_per_token=workload.layer.top_k,
        hidden_dim=workload.layer.hidden_size,
        intermediate_size=workload.local_expert_size,
        num_local_experts=num_local,
        num_logical_experts=num_local * ep_size,
        activation=silu(),
        device="cuda",
        routing_method=load(CONFIG, "RoutingMethodType").Renormalize,
        moe_parallel_config=parallel,
        in_dtype=ACTIVATION_TORCH_DTYPES[workload.weight_dtype],
        moe_backend=moe_backend,
        require_decomposed_backend=True,
    )


def _converted(selection: Selection, bank: WeightBank) -> Weights:
    with current_config():
        if not selection.quantised:
            gate_up, down = load(PLAIN, "convert_to_unquantized_kernel_format")(
                unquantized_backend=selection.backend,
                moe_config=selection.config,
                w13_weight=bank.gate_up.clone(),
                w2_weight=bank.down.clone(),
            )
            return Weights(gate_up, down, None, None)
        assert bank.gate_up_scales is not None
        assert bank.down_scales is not None
        # What conversions ask of the layer, told of the whole pool.
        layer = SimpleNamespace(
            weight_block_size=_BLOCK_SHAPE,
            num_experts=bank.num_slots,
            hidden_size=selection.config.hidden_dim,
            intermediate_size_per_partition=selection.config.intermediate_size_per_partition,
            orig_dtype=selection.config.in_dtype,
            moe_config=selection.config,
            activation=selection.config.activation,
        )
        converted = load(FP8, "convert_to_fp8_moe_kernel_format")(
            fp8_backend=selection.backend,
            layer=layer,
            w13=bank.gate_up.clone(),
            w2=bank.down.clone(),
            w13_scale=bank.gate_up_scales.clone(),
            w2_scale=bank.down_scales.clone(),
            w13_input_scale=None,
            w2_input_scale=None,
        )
        return Weights(*converted)
