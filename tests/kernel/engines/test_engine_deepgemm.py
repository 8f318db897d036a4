from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from kernel.engines.conftest import (
    PARTIAL,
    ROUTINGS,
    a_device,
    a_workload,
    an_identity,
    full_weights,
)

from moeprof.errors import DeviceOutOfMemory
from moeprof.kernel.engines.deepgemm import DeepGemmMasked
from moeprof.kernel.protocol import choice_of
from moeprof.kernel.reference import MAX_RELATIVE_ERROR, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


# Arguments and layouts as in DeepGEMM 2.6.1's csrc/apis/gemm.hpp; whole tiles of 64 rows are
# stored, whatever stands in the rows that are not counted.
def masked_gemm(a: Any, b: Any, d: Tensor, masked_m: Tensor, expected_m: int) -> None:
    assert masked_m.dtype == torch.int32
    assert expected_m > 0
    rows, weights = a, b
    if isinstance(a, tuple):
        values, scales = a
        assert values.dtype == torch.float8_e4m3fn
        assert scales.shape == (*values.shape[:2], values.shape[2] // 128)
        # The layout that is taken without a transposing launch.
        assert scales.stride() == (scales.shape[2] * scales.shape[1], 1, scales.shape[1])
        rows = values.double() * scales.double().repeat_interleave(128, 2)
        weights = full_weights(*b)
    assert d.shape[1] % 128 == 0
    assert d.is_contiguous()
    product = rows.double() @ weights.double().transpose(1, 2)
    for expert, count in enumerate(masked_m.tolist()):
        tile = -(-count // 64) * 64
        d[expert, :tile] = float("nan")
        d[expert, :count] = product[expert, :count].to(d.dtype)


@pytest.fixture
def deep_gemm(install: Callable[..., None]) -> None:
    functions = ("m_grouped_fp8_gemm_nt_masked", "m_grouped_bf16_gemm_nt_masked")
    install("deep_gemm", "2.6.1", {"deep_gemm": dict.fromkeys(functions, masked_gemm)})


@pytest.mark.usefixtures("deep_gemm")
@pytest.mark.parametrize("dtype", ["bf16", "fp8_block"])
@pytest.mark.parametrize("rows", ROUTINGS.values(), ids=ROUTINGS)
def test_outputs_agree_with_float64(dtype: str, rows: Any) -> None:
    work: Any = DeepGemmMasked().bind(a_workload(rows, dtype), a_device(), l2_state="cold", seed=3)
    last = work.num_buffer_sets - 1

    assert work.output(0).isnan().all()
    assert relative_error(work, last) < MAX_RELATIVE_ERROR[dtype]
    assert relative_error(work, 0) < MAX_RELATIVE_ERROR[dtype]


@pytest.mark.usefixtures("deep_gemm")
def test_experts_of_other_ranks_add_nothing() -> None:
    point = a_workload(PARTIAL, ep=(2, 1))
    work: Any = DeepGemmMasked().bind(point, a_device(), l2_state="warm", seed=3)

    assert relative_error(work, 0) < MAX_RELATIVE_ERROR["bf16"]
    assert choice_of(work).kernel == "m_grouped_bf16_gemm_nt_masked"


@pytest.mark.usefixtures("deep_gemm")
def test_padded_workspaces_are_counted() -> None:
    # Weights and activations take under 10 MB, eight times 128 padded rows more than 2.6 MB.
    with pytest.raises(DeviceOutOfMemory, match="workspaces need 1835008 bytes"):
        DeepGemmMasked().bind(
            a_workload(ROUTINGS["random"]), _shrinking_device(), l2_state="warm", seed=0
        )


def _shrinking_device() -> Any:
    device = a_device()
    told = iter([10**9])
    device.free_bytes = lambda: next(told, 1_000_000)
    return device


def test_an_older_deep_gemm_is_told_from_this_one(install: Callable[..., None]) -> None:
    install("deep_gemm", "1.0.0", {"deep_gemm": {"other": None}})

    assert DeepGemmMasked().refusal(a_workload(PARTIAL, "fp8_block"), an_identity()) == (
        "deep_gemm 1.0.0 has no deep_gemm.m_grouped_fp8_gemm_nt_masked; 2.6.1 has"
    )


def test_fp8_on_blackwell_is_refused() -> None:
    kernel = DeepGemmMasked()

    assert kernel.refusal(a_workload(PARTIAL, "fp8_block"), an_identity(capability="10.0")) == (
        "with fp8_block weights it needs compute capability 9.x, this is 10.0"
    )
    assert "pip install" in str(kernel.refusal(a_workload(PARTIAL), an_identity(capability="10.0")))
