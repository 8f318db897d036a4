from __future__ import annotations

import inspect
from contextlib import contextmanager
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

from moeprof.errors import KernelUnsupported
from moeprof.kernel.engines import flashinfer_cutlass, flashinfer_monomoe, importing
from moeprof.kernel.engines.flashinfer_cutlass import FlashInferCutlass
from moeprof.kernel.engines.flashinfer_monomoe import FlashInferMonoMoe
from moeprof.kernel.protocol import choice_of
from moeprof.kernel.reference import MAX_RELATIVE_ERROR, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

TUNED: list[bool] = []


@contextmanager
def autotune(tune_mode: bool = True) -> Iterator[None]:  # noqa: FBT001, FBT002 - as FlashInfer's
    TUNED.append(tune_mode)
    yield


# The signatures are those of FlashInfer 0.7.2.
def cutlass_fused_moe(  # noqa: PLR0913, PLR0917
    input: Tensor,  # noqa: A002
    token_selected_experts: Tensor,
    token_final_scales: Tensor,
    fc1_expert_weights: Tensor,
    fc2_expert_weights: Tensor,
    output_dtype: torch.dtype,
    quant_scales: list[Tensor],
    fc1_expert_biases: Tensor | None = None,
    fc2_expert_biases: Tensor | None = None,
    input_sf: Tensor | None = None,
    tp_size: int = 1,
    tp_rank: int = 0,
    ep_size: int = 1,
    ep_rank: int = 0,
    output: Tensor | None = None,
    use_deepseek_fp8_block_scale: bool = False,  # noqa: FBT001, FBT002
    tune_max_num_tokens: int = 8192,
) -> Tensor:
    assert (tp_size, tp_rank) == (1, 0)
    assert fc1_expert_biases is fc2_expert_biases is input_sf is None
    assert token_selected_experts.dtype == torch.int32
    assert token_final_scales.dtype == torch.float32
    assert fc1_expert_weights.is_contiguous()
    assert output is not None
    assert output.dtype == output_dtype
    assert use_deepseek_fp8_block_scale == bool(quant_scales)
    assert tune_max_num_tokens >= len(input)
    num_local = fc2_expert_weights.shape[0]
    assert int(token_selected_experts.max()) < num_local * ep_size
    assert int(token_selected_experts.min()) >= 0
    scales = (swap_halves(quant_scales[0]), quant_scales[1]) if quant_scales else (None, None)
    ids = token_selected_experts - ep_rank * num_local
    weights = (swap_halves(fc1_expert_weights), fc2_expert_weights)
    return output.copy_(experts_by_hand(input, weights, scales, (ids, token_final_scales)))


def mono_moe(  # noqa: PLR0913, PLR0917
    activations_in: Tensor,
    router_logits: Tensor,
    expert_weights_up: Tensor,
    expert_scales_up: Tensor,
    expert_weights_down: Tensor,
    expert_scales_down: Tensor,
    top_k: int,
    scoring_func: str = "softmax",
    renormalize: bool = True,  # noqa: FBT001, FBT002
    out: Tensor | None = None,
    scratchpad: Tensor | None = None,
    interleave_up: bool = True,  # noqa: FBT001, FBT002
) -> Tensor:
    assert scoring_func == "softmax"
    assert renormalize
    assert not interleave_up
    assert router_logits.dtype == torch.bfloat16
    assert scratchpad is not None
    assert out is not None
    chosen, ids = router_logits.float().softmax(dim=1).topk(top_k, dim=1)
    weights = (swap_halves(expert_weights_up), expert_weights_down)
    scales = (expert_scales_up, expert_scales_down)
    slots = (ids, chosen / chosen.sum(dim=1, keepdim=True))
    return out.copy_(experts_by_hand(activations_in, weights, scales, slots))


def interleave_for_tma_wgmma_up(w_fp8: Tensor) -> Tensor:
    # As the real one, it leaves its result on what it is given.
    w_fp8._tma_interleaved_up = swap_halves(w_fp8)  # type: ignore[attr-defined]
    return w_fp8._tma_interleaved_up  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def flashinfer(install: Callable[..., None]) -> None:
    TUNED.clear()
    mono = {
        "mono_moe": mono_moe,
        "interleave_for_tma_wgmma_up": interleave_for_tma_wgmma_up,
        "alloc_scratchpad": lambda device: torch.zeros(8, dtype=torch.uint8, device=device),
    }
    install(
        "flashinfer-python",
        "0.7.2",
        {
            "flashinfer.fused_moe": {"cutlass_fused_moe": cutlass_fused_moe},
            "flashinfer.fused_moe.monomoe": mono,
            "flashinfer.autotuner": {"autotune": autotune},
        },
    )


@pytest.mark.usefixtures("flashinfer")
@pytest.mark.parametrize("dtype", ["bf16", "fp8_block"])
@pytest.mark.parametrize("rows", ROUTINGS.values(), ids=ROUTINGS)
def test_cutlass_gets_up_first_and_global_experts(dtype: str, rows: Any) -> None:
    work: Any = FlashInferCutlass().bind(
        a_workload(rows, dtype), a_device(), l2_state="cold", seed=3
    )
    last = work.num_buffer_sets - 1

    assert work.output(0).isnan().all()
    assert relative_error(work, last) < MAX_RELATIVE_ERROR[dtype]
    assert TUNED == [True]
    assert choice_of(work).version == "0.7.2"


@pytest.mark.usefixtures("flashinfer")
@pytest.mark.parametrize("ep_rank", [0, 1])
def test_cutlass_leaves_out_experts_of_other_ranks(ep_rank: int) -> None:
    point = a_workload(PARTIAL, ep=(2, ep_rank))
    work: Any = FlashInferCutlass().bind(point, a_device(), l2_state="warm", seed=3)

    assert relative_error(work, 0) < MAX_RELATIVE_ERROR["bf16"]


@pytest.mark.usefixtures("flashinfer")
def test_monomoe_routes_to_the_slots_that_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flashinfer_monomoe, "_MONO_SHAPE", (8, 128, 256))
    point = a_workload(ROUTINGS["full"], "fp8_block")
    work: Any = FlashInferMonoMoe().bind(point, a_device(), l2_state="cold", seed=3)
    last = work.num_buffer_sets - 1

    assert relative_error(work, last) < MAX_RELATIVE_ERROR["fp8_block"]
    assert not hasattr(work.buffers.bank.gate_up, "_tma_interleaved_up")


MONO = {"sizes": (2048, 512), "dtype": "fp8_block"}


@pytest.mark.usefixtures("flashinfer")
@pytest.mark.parametrize(
    ("rows", "top_k", "reason"),
    [
        ((1,) * 8, 2, "it takes experts, expert size and hidden size (256, 512, 2048) only"),
        ((2,) * 9 + (0,) * 247, 2, "it takes 8 tokens at most, got 9"),
        ((1,) * 9 + (0,) * 247, 9, "it takes top_k up to 8, got 9"),
        ((1,) * 3 + (0,) * 253, 2, "all top_k experts of every token must be on this rank"),
        ((1,) * 8 + (0,) * 248, 2, None),
    ],
)
def test_monomoe_refuses_what_it_is_not_made_for(rows: Any, top_k: int, reason: str | None) -> None:
    point = a_workload(rows, top_k=top_k, **MONO)  # type: ignore[arg-type]
    found = FlashInferMonoMoe().refusal(point, an_identity())

    assert found is None if reason is None else reason in str(found)


def test_absence_and_capability_are_the_reasons_given() -> None:
    kernel, point = FlashInferCutlass(), a_workload(PARTIAL, "fp8_block")

    assert kernel.refusal(point, an_identity()) == (
        "flashinfer is not installed: pip install flashinfer-python"
    )
    assert kernel.refusal(point, an_identity(capability="10.0")) == (
        "with fp8_block weights it needs compute capability 9.x, this is 10.0"
    )
    with pytest.raises(KernelUnsupported, match=r"flashinfer-cutlass: flashinfer is not installed"):
        kernel.bind(point, a_device(), l2_state="cold", seed=0)


@pytest.mark.usefixtures("flashinfer")
def test_an_engine_that_fails_makes_the_kernel_unsupported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(_buffer_set: int) -> Tensor:
        raise RuntimeError("no tactic\nand much more")

    monkeypatch.setattr(flashinfer_cutlass, "_cutlass_call", lambda *_: failing)

    with pytest.raises(KernelUnsupported, match=r"^flashinfer-cutlass: no tactic$"):
        FlashInferCutlass().bind(a_workload(PARTIAL), a_device(), l2_state="cold", seed=0)


def test_the_installed_flashinfer_has_these_signatures() -> None:
    fused_moe = pytest.importorskip("flashinfer.fused_moe")

    real = inspect.signature(fused_moe.cutlass_fused_moe).parameters
    assert set(inspect.signature(cutlass_fused_moe).parameters) <= set(real)
    for package in (flashinfer_cutlass._CUTLASS_PACKAGE, flashinfer_monomoe._MONO_PACKAGE):
        assert importing.missing(package) is None
