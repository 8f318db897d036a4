from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from moeprof.device.protocol import DeviceIdentity
from moeprof.errors import DeviceOutOfMemory, KernelUnsupported
from moeprof.kernel import bank
from moeprof.kernel.reference import MAX_RELATIVE_ERROR, reference_output, relative_error
from moeprof.kernel.registry import load_kernel
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

CPU = DeviceIdentity(kind="cpu", name="test CPU", uuid="CPU-test")
ROWS = {
    "random": (1, 3, 0, 2, 5, 0, 1, 4),
    "empty experts": (0, 0, 2, 0, 0, 0, 0, 1),
    "hot": (1, 40, 1, 1, 1, 1, 1, 1),
    "all on one": (0, 0, 0, 0, 0, 17, 0, 0),
    "all on the last": (0, 0, 0, 0, 0, 0, 0, 2),
    "one row": (1, 0, 0, 0, 0, 0, 0, 0),
    "partial rank": (2, 0, 1),
}


def workload(
    rows: Any, dtype: str = "fp32", hidden_size: int = 64, expert_size: int = 48
) -> Workload:
    layer = MoELayer(
        name="l", hidden_size=hidden_size, expert_size=expert_size, num_experts=8, top_k=2
    )
    return Workload("m", layer, dtype, dtype, 4, "given", 0, "none", 1, 0, 1, rows)


def device(l2_bytes: int = 200_000, free: int = 10**9) -> Any:
    return SimpleNamespace(
        identity=CPU,
        torch_device=torch.device("cpu"),
        l2_bytes=l2_bytes,
        free_bytes=lambda: free,
    )


@pytest.fixture(autouse=True)
def _no_banks() -> None:
    bank.clear_banks()


@pytest.mark.parametrize("kernel", ["torch-loop", "torch-grouped"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_outputs_agree_with_float64(kernel: str, dtype: str, rows: Any) -> None:
    work = load_kernel(kernel).bind(workload(rows, dtype), device(), l2_state="cold", seed=3)
    last = work.num_buffer_sets - 1

    assert work.output(last).isnan().all()
    assert relative_error(work, last) < MAX_RELATIVE_ERROR[dtype]
    assert work.output(last).isfinite().all()


def test_tensor_parallel_slices_are_computed_whole() -> None:
    sliced = replace(workload(ROWS["random"], expert_size=96), tp_size=2)
    work = load_kernel("torch-loop").bind(sliced, device(), l2_state="warm", seed=3)

    assert work.buffers.gate_up(0).shape == (8, 2 * 48, 64)
    assert relative_error(work, 0) < MAX_RELATIVE_ERROR["fp32"]


def test_the_reference_is_swiglu_by_hand() -> None:
    work = load_kernel("torch-loop").bind(workload((0, 1)), device(), l2_state="warm", seed=3)
    row = work.buffers.rows[0, 0].tolist()
    both = [
        sum(w * x for w, x in zip(weights, row, strict=True))
        for weights in work.buffers.gate_up(0)[1].tolist()
    ]
    hidden = [g / (1 + math.exp(-g)) * u for g, u in zip(both[:48], both[48:], strict=True)]
    by_hand = sum(w * h for w, h in zip(work.buffers.down(0)[1, 0].tolist(), hidden, strict=True))

    assert float(reference_output(work.buffers, 0)[0, 0]) == pytest.approx(by_hand)


def test_a_kernel_that_leaves_rows_unwritten_is_seen() -> None:
    work = load_kernel("torch-loop").bind(
        workload(ROWS["random"]), device(), l2_state="warm", seed=3
    )
    work.launch = lambda buffer_set: None

    assert math.isnan(relative_error(work, 0))


def test_weights_and_rows_are_random_and_never_zero() -> None:
    work = load_kernel("torch-loop").bind(
        workload(ROWS["random"]), device(), l2_state="cold", seed=3
    )
    buffers = work.buffers

    assert (buffers.bank.gate_up != 0).all()
    assert float(buffers.bank.gate_up.std()) == pytest.approx(64**-0.5, rel=0.05)
    assert float(buffers.bank.down.std()) == pytest.approx(48**-0.5, rel=0.05)
    assert float(buffers.rows.std()) == pytest.approx(1, rel=0.1)
    assert not torch.equal(buffers.rows[0], buffers.rows[1])


def test_the_seed_decides_the_rows_and_not_the_weights() -> None:
    first, again, other = (
        load_kernel("torch-loop")
        .bind(workload(ROWS["random"]), device(), l2_state="warm", seed=seed)
        .buffers
        for seed in (1, 1, 2)
    )

    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.rows, other.rows)
    assert torch.equal(first.gate_up(0), other.gate_up(0))


def test_both_kernels_and_all_batches_share_one_bank() -> None:
    pools = [
        load_kernel(kernel)
        .bind(workload(rows), device(), l2_state=l2_state, seed=3)
        .buffers.bank.gate_up.data_ptr()
        for kernel in ("torch-loop", "torch-grouped")
        for rows in (ROWS["random"], ROWS["hot"], ROWS["one row"])
        for l2_state in ("cold", "warm")
    ]

    assert len(set(pools)) == 1


def test_banks_not_used_for_longest_make_room() -> None:
    roomy, kernel = device(), load_kernel("torch-loop")
    kernel.bind(workload(ROWS["random"]), roomy, l2_state="warm", seed=0)
    kernel.bind(workload(ROWS["random"], "bf16"), roomy, l2_state="warm", seed=0)
    assert len(bank._BANKS) == 2
    roomy.free_bytes = lambda: 10**9 if len(bank._BANKS) < 2 else 0

    kernel.bind(workload(ROWS["random"], "fp16"), roomy, l2_state="warm", seed=0)

    assert [key.dtype for key in bank._BANKS] == ["bf16", "fp16"]


def test_what_does_not_fit_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(DeviceOutOfMemory, match=r"need \d+ bytes; 1000 bytes are free"):
        load_kernel("torch-loop").bind(
            workload(ROWS["random"]), device(free=1000), l2_state="cold", seed=0
        )
    assert not bank._BANKS


@pytest.mark.parametrize("kernel", ["torch-loop", "torch-grouped"])
def test_no_rows_and_strange_dtypes_are_refused_with_the_reason(kernel: str) -> None:
    opened = load_kernel(kernel)

    assert opened.refusal(workload((0, 0)), CPU) == "no rows fall on this rank"
    assert "fp8" in opened.refusal(workload((1,), "fp8"), CPU)
    mixed = replace(workload((1,), "bf16"), activation_dtype="fp16")
    assert "one dtype" in opened.refusal(mixed, CPU)
    with pytest.raises(KernelUnsupported, match="no rows"):
        opened.bind(workload((0, 0)), device(), l2_state="cold", seed=0)


def test_grouped_refuses_what_its_strides_forbid() -> None:
    kernel = load_kernel("torch-grouped")

    assert "multiples of 8" in kernel.refusal(workload((1,), "bf16", hidden_size=60), CPU)
    assert "multiples of 8" in kernel.refusal(workload((1,), "bf16", expert_size=60), CPU)
    assert kernel.refusal(workload((1,), "fp32", hidden_size=60), CPU) is None


@pytest.mark.parametrize(
    ("dtype", "capability", "refused"),
    [
        ("bf16", "9.0", None),
        ("bf16", "10.0", None),
        ("bf16", "8.0", "8.0"),
        ("fp16", "9.0", "fp16"),
    ],
)
def test_grouped_runs_on_gpus_where_torch_has_a_kernel(
    dtype: str, capability: str, refused: str | None
) -> None:
    gpu = DeviceIdentity("cuda", "GPU", "GPU-x", versions={"capability": capability})

    reason = load_kernel("torch-grouped").refusal(workload((1,), dtype), gpu)

    assert reason is None if refused is None else refused in reason
