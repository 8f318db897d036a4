from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from kernel.engines.conftest import (
    PARTIAL,
    ROUTINGS,
    a_device,
    a_workload,
    an_identity,
    experts_by_hand,
)

from moeprof.kernel.engines import importing, sglang_moe
from moeprof.kernel.engines.sglang_moe import SGLangTriton
from moeprof.kernel.protocol import Choice, choice_of
from moeprof.kernel.reference import MAX_RELATIVE_ERROR, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

TRITON = "sglang.srt.layers.moe.moe_runner.triton_utils"


# Fields and arguments are those of SGLang 0.5.23 that bear on this call.
@dataclass
class MoeRunnerConfig:
    num_experts: int | None = None
    num_local_experts: int | None = None
    hidden_size: int | None = None
    intermediate_size_per_partition: int | None = None
    layer_id: int | None = None
    top_k: int | None = None
    params_dtype: torch.dtype | None = None
    activation: str = "silu"
    is_gated: bool = True
    apply_router_weight_on_input: bool = False
    inplace: bool = True
    no_combine: bool = False
    routed_scaling_factor: float | None = None


class StandardTopKOutput(NamedTuple):
    topk_weights: Tensor
    topk_ids: Tensor
    router_logits: Tensor


def fused_experts(  # noqa: PLR0913, PLR0917
    hidden_states: Tensor,
    w1: Tensor,
    w2: Tensor,
    topk_output: StandardTopKOutput,
    moe_runner_config: MoeRunnerConfig,
    b1: Tensor | None = None,
    b2: Tensor | None = None,
    use_fp8_w8a8: bool = False,  # noqa: FBT001, FBT002
    w1_scale: Tensor | None = None,
    w2_scale: Tensor | None = None,
    a1_scale: Tensor | None = None,
    a2_scale: Tensor | None = None,
    block_shape: list[int] | None = None,
) -> Tensor:
    topk_weights, topk_ids, _ = topk_output
    config = moe_runner_config
    filtering = config.num_experts != config.num_local_experts
    assert filtering or bool((topk_ids >= 0).all())
    assert not config.inplace
    assert config.params_dtype == hidden_states.dtype
    assert b1 is b2 is a1_scale is a2_scale is None
    assert block_shape == ([128, 128] if use_fp8_w8a8 else None)
    assert topk_ids.dtype == torch.int32
    return experts_by_hand(hidden_states, (w1, w2), (w1_scale, w2_scale), (topk_ids, topk_weights))


class Server:
    """Stands for the process-wide context: published once."""

    def __init__(self) -> None:
        self.role: str | None = None
        self.groups: dict[str, Any] = {}
        self.configs: dict[int, Any] | None = None

    def publish(self, server_args: Any, *, role: str, ranks: Any = None) -> None:
        assert (server_args.model_path, self.role, ranks) == ("dummy", None, None)
        self.role = role

    def get_moe_configs(
        self,
        E: int,  # noqa: N803
        N: int,  # noqa: N803
        dtype: str | None,
        block_n: int | None = 0,
        block_k: int | None = 0,
        per_channel_quant: bool = False,  # noqa: FBT001, FBT002
    ) -> dict[int, Any] | None:
        del E, N, dtype, block_n, block_k, per_channel_quant
        return self.configs


def get_config_file_name(
    E: int,  # noqa: N803
    N: int,  # noqa: N803
    dtype: str | None,
    block_shape: list[int] | None = None,
) -> str:
    return f"E={E},N={N},dtype={dtype},block_shape={block_shape}.json"


@pytest.fixture
def server(install: Callable[..., None]) -> Server:
    sglang_moe._publish.cache_clear()
    server = Server()
    install(
        "sglang",
        "0.5.23",
        {
            f"{TRITON}.fused_moe": {"fused_experts": fused_experts},
            f"{TRITON}.fused_moe_triton_config": {
                "get_config_file_name": get_config_file_name,
                "get_moe_configs": server.get_moe_configs,
            },
            "sglang.srt.layers.moe.moe_runner.base": {"MoeRunnerConfig": MoeRunnerConfig},
            "sglang.srt.layers.moe.topk": {"StandardTopKOutput": StandardTopKOutput},
            "sglang.srt.server_args": {"ServerArgs": SimpleNamespace},
            "sglang.srt.runtime_context": {
                "publish": server.publish,
                "publish_role": lambda: server.role,
                "get_parallel": lambda: SimpleNamespace(override_permanently=server.groups.update),
            },
        },
    )
    return server


@pytest.mark.parametrize("dtype", ["bf16", "fp8_block"])
@pytest.mark.parametrize("rows", ROUTINGS.values(), ids=ROUTINGS)
def test_outputs_agree_with_float64(server: Server, dtype: str, rows: Any) -> None:
    kernel = SGLangTriton()
    work: Any = kernel.bind(a_workload(rows, dtype), a_device(), l2_state="cold", seed=3)
    last = work.num_buffer_sets - 1

    assert relative_error(work, last) < MAX_RELATIVE_ERROR[dtype]
    assert server.role == "scheduler"
    assert server.groups["tp_group"].world_size == 1


@pytest.mark.usefixtures("server")
def test_experts_of_other_ranks_add_nothing() -> None:
    point = a_workload(PARTIAL, ep=(2, 1))
    work: Any = SGLangTriton().bind(point, a_device(), l2_state="warm", seed=3)

    assert relative_error(work, 0) < MAX_RELATIVE_ERROR["bf16"]


@pytest.mark.parametrize(
    ("dtype", "file"),
    [
        ("bf16", "E=8,N=128,dtype=None,block_shape=[0, 0].json"),
        ("fp8_block", "E=8,N=128,dtype=fp8_w8a8,block_shape=[128, 128].json"),
    ],
)
def test_the_record_has_the_tuned_file_if_there_is_one(
    server: Server, dtype: str, file: str
) -> None:
    point = a_workload(ROUTINGS["random"], dtype)
    untuned = SGLangTriton().bind(point, a_device(), l2_state="warm", seed=3)
    server.configs = {1: {}}
    tuned = SGLangTriton().bind(point, a_device(), l2_state="warm", seed=3)

    assert choice_of(untuned) == Choice("fused_moe_triton", "0.5.23", None)
    assert choice_of(tuned) == Choice("fused_moe_triton", "0.5.23", file)


def test_absence_is_the_reason_given() -> None:
    assert SGLangTriton().refusal(a_workload(PARTIAL), an_identity()) == (
        "sglang is not installed: pip install sglang"
    )


def test_the_installed_sglang_has_these_signatures() -> None:
    pytest.importorskip("sglang.srt.runtime_context")

    assert importing.missing(sglang_moe._PACKAGE) is None
