from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest
import torch
from kernel.engines.conftest import (
    PARTIAL,
    ROUTINGS,
    a_device,
    a_workload,
    an_identity,
    experts_by_hand,
    swap_halves,
)

from moeprof.errors import DeviceOutOfMemory, KernelUnsupported
from moeprof.kernel.engines import importing, vllm_oracle
from moeprof.kernel.engines.vllm_moe import (
    VllmAuto,
    VllmDeepGemm,
    VllmFlashInferCutlass,
    VllmMarlin,
    VllmTriton,
)
from moeprof.kernel.engines.vllm_names import CONFIG, FP8, KEYS, MOE, PACKAGE, PLAIN, WORKSPACE
from moeprof.kernel.protocol import Choice, choice_of
from moeprof.kernel.reference import MAX_RELATIVE_ERROR, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

SEEN: dict[str, Any] = {}


class Backend(Enum):
    TRITON = "TRITON"
    FLASHINFER_CUTLASS = "FLASHINFER_CUTLASS"
    DEEPGEMM = "DEEPGEMM"
    MARLIN = "MARLIN"


class MoEActivation(Enum):
    SILU = "silu"


class RoutingMethodType(Enum):
    Renormalize = 1


@dataclass
class FusedMoEParallelConfig:
    ep_size: int
    ep_rank: int
    use_ep: bool

    @classmethod
    def make_no_parallel(cls) -> FusedMoEParallelConfig:
        return cls(1, 0, use_ep=False)


# The fields of vLLM 0.33's that have no default, and those given here.
@dataclass
class FusedMoEConfig:
    num_experts: int
    experts_per_token: int
    hidden_dim: int
    intermediate_size: int
    num_local_experts: int
    num_logical_experts: int
    activation: MoEActivation
    device: torch.device | str
    routing_method: RoutingMethodType
    moe_parallel_config: FusedMoEParallelConfig
    in_dtype: torch.dtype
    router_logits_dtype: torch.dtype | None = None
    moe_backend: str = "auto"
    require_decomposed_backend: bool = False

    @property
    def intermediate_size_per_partition(self) -> int:
        return self.intermediate_size


class TritonExperts: ...


class FlashInferExperts: ...


class DeepGemmExperts: ...


class MarlinExperts: ...


class TritonOrDeepGemmExperts:
    def _select_experts_impl(self, hidden_states: Tensor, w1: Tensor, w2: Tensor) -> Any:
        assert w1.shape[0] == w2.shape[0]
        return DeepGemmExperts() if hidden_states.shape[0] >= 128 else TritonExperts()


CLASSES = {
    Backend.TRITON: TritonExperts,
    Backend.FLASHINFER_CUTLASS: FlashInferExperts,
    Backend.DEEPGEMM: TritonOrDeepGemmExperts,
    Backend.MARLIN: MarlinExperts,
}
NAMES = {
    "triton": Backend.TRITON,
    "flashinfer_cutlass": Backend.FLASHINFER_CUTLASS,
    "deep_gemm": Backend.DEEPGEMM,
    "marlin": Backend.MARLIN,
}


@contextmanager
def set_current_vllm_config(
    vllm_config: Any,
    check_compile: bool = False,  # noqa: FBT001, FBT002
    prefix: str | None = None,
) -> Iterator[None]:
    del vllm_config, check_compile, prefix
    SEEN["inside"] = True
    yield
    SEEN["inside"] = False


def _selected(config: FusedMoEConfig) -> tuple[Backend, type]:
    assert SEEN["inside"]
    assert config.require_decomposed_backend
    assert config.num_experts == config.num_local_experts * config.moe_parallel_config.ep_size
    backend = NAMES.get(config.moe_backend, SEEN["auto"])
    if backend in SEEN["unsupported"]:
        raise ValueError(f"MoE backend {backend.value} does not support the deployment")
    return backend, CLASSES[backend]


def select_unquantized_moe_backend(moe_config: FusedMoEConfig) -> tuple[Backend, type]:
    return _selected(moe_config)


def select_fp8_moe_backend(
    config: FusedMoEConfig,
    weight_key: str | None,
    activation_key: str | None,
    allow_vllm_cutlass: bool = False,  # noqa: FBT001, FBT002
) -> tuple[Backend, type]:
    assert (weight_key, activation_key) == ("static 128x128", "dynamic 1x128")
    assert not allow_vllm_cutlass
    return _selected(config)


def convert_to_unquantized_kernel_format(
    unquantized_backend: Backend,
    moe_config: FusedMoEConfig,
    w13_weight: Tensor,
    w2_weight: Tensor,
    layer: Any = None,
) -> tuple[Tensor, Tensor]:
    del moe_config
    assert unquantized_backend == Backend.FLASHINFER_CUTLASS
    assert layer is None
    converted = swap_halves(w13_weight), w2_weight.clone()
    w13_weight.zero_()
    w2_weight.zero_()
    return converted


def convert_to_fp8_moe_kernel_format(
    fp8_backend: Backend,
    layer: Any,
    w13: Tensor,
    w2: Tensor,
    w13_scale: Tensor,
    w2_scale: Tensor,
    w13_input_scale: Tensor | None,
    w2_input_scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    assert w13_input_scale is w2_input_scale is None
    assert layer.weight_block_size == [128, 128]
    assert layer.num_experts == w13.shape[0]
    assert (layer.hidden_size, layer.intermediate_size_per_partition) == tuple(w2.shape[1:])
    assert layer.orig_dtype == torch.bfloat16
    SEEN["converted"] = fp8_backend
    if fp8_backend != Backend.FLASHINFER_CUTLASS:
        return w13, w2, w13_scale, w2_scale
    return swap_halves(w13), w2, swap_halves(w13_scale), w2_scale


def make_fp8_moe_quant_config(
    fp8_backend: Backend,
    w1_scale: Tensor,
    w2_scale: Tensor,
    a1_scale: Tensor | None,
    a2_scale: Tensor | None,
    w1_bias: Tensor | None = None,
    w2_bias: Tensor | None = None,
    block_shape: list[int] | None = None,
) -> tuple[Tensor, Tensor]:
    assert isinstance(fp8_backend, Backend)
    assert a1_scale is a2_scale is w1_bias is w2_bias is None
    assert block_shape == [128, 128]
    return w1_scale, w2_scale


class FusedMoEKernel:
    def __init__(self, config: FusedMoEConfig, experts_cls: type, scales: Any) -> None:
        assert SEEN["inside"]
        self.config = config
        self.fused_experts = experts_cls()
        self.scales = scales

    def apply(  # noqa: PLR0913, PLR0917
        self,
        hidden_states: Tensor,
        w1: Tensor,
        w2: Tensor,
        topk_weights: Tensor,
        topk_ids: Tensor,
        activation: MoEActivation,
        global_num_experts: int,
        expert_map: Tensor | None,
        apply_router_weight_on_input: bool,  # noqa: FBT001
    ) -> Tensor:
        assert SEEN["workspace"] == hidden_states.device
        assert activation is MoEActivation.SILU
        assert not apply_router_weight_on_input
        assert global_num_experts == self.config.num_experts
        assert int(topk_ids.min()) >= 0
        ids = topk_ids if expert_map is None else expert_map[topk_ids.long()]
        scales = self.scales
        if isinstance(self.fused_experts, FlashInferExperts):
            w1 = swap_halves(w1)
            scales = scales if scales[0] is None else (swap_halves(scales[0]), scales[1])
        return experts_by_hand(hidden_states, (w1, w2), scales, (ids, topk_weights))


def make_unquantized_moe_kernel(
    quant_config: Any,
    moe_config: FusedMoEConfig,
    backend: Backend,
    experts_cls: type,
    routing_tables: Any = None,
) -> FusedMoEKernel:
    assert quant_config == "unquantised"
    assert CLASSES[backend] is experts_cls
    assert routing_tables is None
    return FusedMoEKernel(moe_config, experts_cls, (None, None))


def make_fp8_moe_kernel(
    moe_quant_config: Any,
    moe_config: FusedMoEConfig,
    experts_cls: type,
    fp8_backend: Backend,
    routing_tables: Any = None,
) -> FusedMoEKernel:
    assert CLASSES[fp8_backend] is experts_cls
    assert routing_tables is None
    return FusedMoEKernel(moe_config, experts_cls, moe_quant_config)


def get_config_file_name(
    E: int,  # noqa: N803
    N: int,  # noqa: N803
    dtype: str | None,
    block_shape: list[int] | None = None,
) -> str:
    return f"E={E},N={N},dtype={dtype},block_shape={block_shape}.json"


def get_moe_configs(
    E: int,  # noqa: N803
    N: int,  # noqa: N803
    dtype: str | None,
    block_n: int | None = None,
    block_k: int | None = None,
) -> dict[int, Any] | None:
    del E, N, dtype, block_n, block_k
    return {1: {}} if SEEN["tuned"] else None


def init_workspace_manager(device: torch.device, num_ubatches: int | None = None) -> None:
    assert num_ubatches is None
    SEEN["workspace"] = device


@pytest.fixture
def vllm(install: Callable[..., None]) -> None:
    SEEN.clear()
    SEEN.update(inside=False, auto=Backend.TRITON, unsupported=(), tuned=False)
    vllm_oracle._default_config.cache_clear()
    oracle = {
        "select_unquantized_moe_backend": select_unquantized_moe_backend,
        "convert_to_unquantized_kernel_format": convert_to_unquantized_kernel_format,
        "make_unquantized_moe_kernel": make_unquantized_moe_kernel,
    }
    fp8_oracle = {
        "select_fp8_moe_backend": select_fp8_moe_backend,
        "convert_to_fp8_moe_kernel_format": convert_to_fp8_moe_kernel_format,
        "make_fp8_moe_quant_config": make_fp8_moe_quant_config,
        "make_fp8_moe_kernel": make_fp8_moe_kernel,
    }

    @contextmanager
    def autotune() -> Iterator[None]:
        SEEN["autotuned"] = True
        yield

    install(
        "vllm",
        "0.33.0",
        {
            "vllm.config": {
                "VllmConfig": object,
                "set_current_vllm_config": set_current_vllm_config,
            },
            CONFIG: {
                "FusedMoEConfig": FusedMoEConfig,
                "FusedMoEParallelConfig": FusedMoEParallelConfig,
                "FUSED_MOE_UNQUANTIZED_CONFIG": "unquantised",
                "RoutingMethodType": RoutingMethodType,
            },
            f"{MOE}activation": {"MoEActivation": MoEActivation},
            PLAIN: oracle,
            FP8: fp8_oracle,
            KEYS: {
                "kFp8Static128BlockSym": "static 128x128",
                "kFp8Dynamic128Sym": "dynamic 1x128",
            },
            WORKSPACE: {
                "init_workspace_manager": init_workspace_manager,
                "is_workspace_manager_initialized": lambda: "workspace" in SEEN,
            },
            f"{MOE}fused_moe": {
                "get_config_file_name": get_config_file_name,
                "get_moe_configs": get_moe_configs,
            },
            "flashinfer.autotuner": {"autotune": autotune},
        },
    )


KERNELS = {
    "bf16": (VllmTriton, VllmFlashInferCutlass, VllmAuto),
    "fp8_block": (VllmTriton, VllmFlashInferCutlass, VllmDeepGemm, VllmMarlin, VllmAuto),
}
CASES = [(dtype, kernel) for dtype, kernels in KERNELS.items() for kernel in kernels]


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize(("dtype", "kernel"), CASES)
@pytest.mark.parametrize("rows", ROUTINGS.values(), ids=ROUTINGS)
def test_outputs_agree_with_float64(dtype: str, kernel: Any, rows: Any) -> None:
    work: Any = kernel().bind(a_workload(rows, dtype), a_device(), l2_state="cold", seed=3)
    last = work.num_buffer_sets - 1

    assert work.output(0).isnan().all()
    assert relative_error(work, last) < MAX_RELATIVE_ERROR[dtype]
    assert (work.max_relative_error is None) == (dtype == "bf16")


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize("kernel", [VllmTriton, VllmFlashInferCutlass])
@pytest.mark.parametrize("ep_rank", [0, 1])
def test_experts_of_other_ranks_add_nothing(kernel: Any, ep_rank: int) -> None:
    point = a_workload(PARTIAL, ep=(2, ep_rank))
    work: Any = kernel().bind(point, a_device(), l2_state="warm", seed=3)

    assert relative_error(work, 0) < MAX_RELATIVE_ERROR["bf16"]


@pytest.mark.usefixtures("vllm")
def test_triton_takes_the_banks_own_weights() -> None:
    point = a_workload(ROUTINGS["random"], "fp8_block")
    work: Any = VllmTriton().bind(point, a_device(), l2_state="warm", seed=3)
    work.buffers.bank.down_scales.zero_()
    work.launch(0)

    assert "converted" not in SEEN
    assert not work.output(0).any()


@pytest.mark.usefixtures("vllm")
def test_a_converted_pool_is_made_once_and_counted() -> None:
    point = a_workload(ROUTINGS["random"], "fp8_block")
    VllmMarlin().bind(point, a_device(), l2_state="warm", seed=3)
    first = SEEN.pop("converted")
    VllmMarlin().bind(point, a_device(), l2_state="warm", seed=4)

    assert first is Backend.MARLIN
    assert "converted" not in SEEN
    with pytest.raises(DeviceOutOfMemory, match="in the order of vllm DEEPGEMM"):
        VllmDeepGemm().bind(point, _full_after_weights(), l2_state="warm", seed=3)


def _full_after_weights() -> Any:
    device = a_device()
    told = iter([10**9])
    device.free_bytes = lambda: next(told, 1000)
    return device


@pytest.mark.usefixtures("vllm")
def test_the_record_has_the_class_that_ran_and_its_tuned_file() -> None:
    def choice(kernel: Any, rows: Any, dtype: str) -> Choice:
        work = kernel().bind(a_workload(rows, dtype), a_device(), l2_state="warm", seed=3)
        return choice_of(work)

    file = "E=8,N=128,dtype=fp8_w8a8,block_shape=[128, 128].json"
    few, many = ROUTINGS["random"], (128, 0, 0, 0, 0, 0, 0, 0)

    assert choice(VllmTriton, few, "bf16") == Choice("TritonExperts", "0.33.0", None)
    SEEN["tuned"] = True
    assert choice(VllmDeepGemm, few, "fp8_block") == Choice("TritonExperts", "0.33.0", file)
    assert choice(VllmDeepGemm, many, "fp8_block") == Choice("DeepGemmExperts", "0.33.0", None)
    SEEN["auto"] = Backend.FLASHINFER_CUTLASS
    assert choice(VllmAuto, few, "bf16") == Choice("FlashInferExperts", "0.33.0", None)
    assert SEEN["autotuned"]


@pytest.mark.usefixtures("vllm")
def test_what_the_oracle_says_is_the_reason() -> None:
    SEEN["unsupported"] = (Backend.FLASHINFER_CUTLASS,)
    kernel = VllmFlashInferCutlass()
    reason = kernel.refusal(a_workload(PARTIAL), an_identity())

    assert reason == (
        "vLLM's oracle: MoE backend FLASHINFER_CUTLASS does not support the deployment"
    )
    with pytest.raises(KernelUnsupported, match="vllm-flashinfer-cutlass: vLLM's oracle"):
        kernel.bind(a_workload(PARTIAL), a_device(), l2_state="cold", seed=0)


@pytest.mark.usefixtures("vllm")
def test_a_conversion_that_fails_makes_the_kernel_unsupported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(**_: Any) -> None:
        raise AttributeError("no gptq_marlin_repack")

    assert VllmMarlin().refusal(a_workload(PARTIAL, "fp8_block"), an_identity()) is None
    monkeypatch.setattr(sys.modules[FP8], "convert_to_fp8_moe_kernel_format", failing)

    with pytest.raises(KernelUnsupported, match=r"^vllm-marlin: no gptq_marlin_repack$"):
        VllmMarlin().bind(a_workload(PARTIAL, "fp8_block"), a_device(), l2_state="cold", seed=0)


@pytest.mark.parametrize("kernel", [VllmDeepGemm, VllmMarlin])
def test_quantised_backends_refuse_plain_weights(kernel: Any) -> None:
    assert kernel().refusal(a_workload(PARTIAL), an_identity()) == (
        "it takes fp8_block weights here, not bf16"
    )


def test_absence_is_the_reason_given() -> None:
    assert VllmAuto().refusal(a_workload(PARTIAL), an_identity()) == (
        "vllm is not installed: pip install vllm"
    )
    assert VllmAuto().refusal(a_workload(PARTIAL), an_identity("cpu")) == (
        "it runs on cuda, not on cpu"
    )


@pytest.mark.usefixtures("vllm")
def test_another_vllm_is_told_by_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Older:
        num_experts: int

    monkeypatch.setattr(sys.modules[CONFIG], "FusedMoEConfig", Older)

    assert importing.missing(PACKAGE) == (
        "vllm 0.33.0 is not the 0.33 that this adapter knows: "
        "FusedMoEConfig takes no experts_per_token"
    )


def test_the_installed_vllm_has_these_signatures() -> None:
    pytest.importorskip("vllm.model_executor.layers.fused_moe.config")

    assert importing.missing(PACKAGE) is None
