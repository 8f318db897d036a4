from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from moeprof.device.protocol import DeviceIdentity
from moeprof.kernel import bank
from moeprof.kernel.buffers import Buffers, allocate
from moeprof.kernel.cuda import host, wgmma
from moeprof.kernel.cuda.compile import compile_variant
from moeprof.kernel.cuda.experts import expert_arguments, make_scratch
from moeprof.kernel.cuda.tensor_map import down_tensor, encode_for_host, gate_up_tensor
from moeprof.kernel.cuda.usage import usage_of
from moeprof.kernel.cuda.variants import ARCHITECTURES
from moeprof.kernel.reference import (
    MAX_RELATIVE_ERROR,
    quantised_rows,
    reference_output,
)
from moeprof.resources import kernels_folder
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

pytestmark = pytest.mark.skipif(host.refusal() is not None, reason=str(host.refusal()))

# Products are summed in fp32 in another order than the reference's float64.
FP32_ERROR = 1e-4
# Between two neighbours of bf16, whichever a sum in fp32 falls to.
BF16_ERROR = 4e-3
FEW_STAGES = 4  # so that small layers go round the ring many times

ROWS = {
    "random": (1, 3, 0, 12, 5, 0, 1, 4),
    "empty experts": (0, 0, 2, 0, 0, 0, 0, 1),
    "hot": (1, 70, 1, 0, 1, 1, 1, 1),
    "all on one": (0, 0, 0, 0, 0, 37, 0, 0),
    "one row": (0, 0, 0, 0, 0, 0, 0, 1),
    "full groups": (16, 32, 0, 0, 0, 0, 0, 64),
}


def workload(rows: Any, dtype: str, hidden_size: int = 256, expert_size: int = 128) -> Workload:
    layer = MoELayer(
        name="l", hidden_size=hidden_size, expert_size=expert_size, num_experts=8, top_k=3
    )
    return Workload("m", layer, dtype, dtype, 4, "given", 0, "none", 1, 0, 1, rows)


@cache
def kernel(dtype: str, rows: int, num_stages: int | None) -> host.HostKernel:
    variant = wgmma.variant(wgmma.WgmmaSettings(dtype, rows))
    defines = dict(variant.defines)
    if num_stages is not None:
        defines["STAGES"] = str(num_stages)
    return host.host_kernel(
        variant.source,
        variant.entry,
        defines=tuple(defines.items()),
        headers=variant.headers,
    )


class Emulated:
    """The kernel bound to random data on the CPU."""

    def __init__(
        self,
        work: Workload,
        *,
        rows: int,
        num_blocks: int,
        num_stages: int | None = FEW_STAGES,
    ) -> None:
        bank.clear_banks()
        device: Any = SimpleNamespace(
            identity=DeviceIdentity(kind="cpu", name="test CPU", uuid="CPU-test"),
            torch_device=torch.device("cpu"),
            l2_bytes=1,
            free_bytes=lambda: 10**9,
        )
        self.buffers: Buffers = allocate(work, device, l2_state="warm", seed=1, combined=True)
        self.num_blocks = num_blocks
        num_tokens = self.buffers.tokens.shape[1]
        self.scratch = make_scratch(
            self.buffers,
            num_partials=wgmma.num_partials(work, num_tokens, rows, num_blocks),
            num_counters=wgmma.num_counters(work, num_tokens, rows, num_blocks),
        )
        self.variant = wgmma.variant(wgmma.WgmmaSettings(work.weight_dtype, rows))
        self.kernel = kernel(work.weight_dtype, rows, num_stages)

    def launch(self, seed: int) -> None:
        buffers, scratch = self.buffers, self.scratch
        for written in (buffers.outputs, buffers.hidden, scratch.row_outputs, scratch.partials):
            written.fill_(float("nan"))
        sizes = {
            "num_experts": buffers.workload.num_local_experts,
            "expert_size": buffers.workload.local_expert_size,
            "hidden_size": buffers.workload.layer.hidden_size,
            "element_bytes": buffers.gate_up(0).element_size(),
        }
        gate_up = encode_for_host(gate_up_tensor(buffers.gate_up(0).data_ptr(), **sizes))
        down = encode_for_host(down_tensor(buffers.down(0).data_ptr(), **sizes))
        arguments = wgmma.WgmmaArguments(experts=expert_arguments(buffers, scratch, 0))
        arguments.gate_up_map[:] = gate_up
        arguments.down_map[:] = down
        self.kernel.launch(
            self.num_blocks,
            wgmma.NUM_THREADS,
            arguments,
            shared_bytes=self.variant.shared_bytes,
            seed=seed,
            ranges=[*self._read(), *self._written()],
        )

    def _read(self) -> list[host.Range]:
        of = self.buffers
        tensors = (
            of.tokens, of.gate_up(0), of.down(0), of.gate_up_scales(0), of.down_scales(0),
            of.row_ends, of.row_tokens, of.row_weights, of.token_rows,
        )  # fmt: skip
        return [(t.data_ptr(), t.nbytes, False) for t in tensors if t is not None]

    def _written(self) -> list[host.Range]:
        of, scratch = self.buffers, self.scratch
        tensors = (of.hidden, of.outputs, scratch.row_outputs, scratch.partials, scratch.counters)
        return [(t.data_ptr(), t.nbytes, True) for t in tensors]

    def exact(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Float64: hidden rows, and weighted rows from the hidden ones that the kernel wrote."""
        of = self.buffers
        fp8 = of.gate_up_scales(0) is not None
        hidden = torch.full(of.hidden.shape, float("nan"), dtype=torch.float64)
        outputs = torch.full(self.scratch.row_outputs.shape, float("nan"), dtype=torch.float64)
        for each in of.active:
            span = slice(each.first_row, each.end_row)
            gate_up = weights(of.gate_up(0), of.gate_up_scales(0), each.expert)
            down = weights(of.down(0), of.down_scales(0), each.expert)
            rows, written = of.rows[0][span], of.hidden[span]
            inputs = quantised_rows(rows) if fp8 else rows.double()
            gate, up = (inputs @ gate_up.t()).chunk(2, dim=1)
            hidden[span] = torch.nn.functional.silu(gate) * up
            inputs = quantised_rows(written) if fp8 else written.double()
            outputs[span] = (inputs @ down.t()) * of.row_weights[span, None].double()
        return hidden, outputs


def weights(pool: torch.Tensor, scales: torch.Tensor | None, expert: int) -> torch.Tensor:
    """One expert's weights in float64."""
    values = pool[expert].double()
    if scales is None:
        return values
    spread = scales[expert].double().repeat_interleave(128, 0).repeat_interleave(128, 1)
    return values * spread


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(found.double() - exact) / torch.linalg.vector_norm(exact))


def check(emulated: Emulated, seed: int) -> None:
    emulated.launch(seed)
    hidden, row_outputs = emulated.exact()
    of, dtype = emulated.buffers, emulated.buffers.workload.weight_dtype
    combined = torch.zeros(of.outputs[0].shape, dtype=torch.float64)
    combined.index_add_(0, of.row_tokens.long(), emulated.scratch.row_outputs.double())

    assert error(of.hidden, hidden) < BF16_ERROR
    assert error(emulated.scratch.row_outputs, row_outputs) < FP32_ERROR
    assert error(of.outputs[0], combined) < BF16_ERROR
    assert error(of.outputs[0], reference_output(of, 0)) < MAX_RELATIVE_ERROR[dtype]
    assert not emulated.scratch.counters.any()


@pytest.mark.parametrize("dtype", ["bf16", "fp8_block"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_outputs_agree_with_float64(dtype: str, rows: Any) -> None:
    for seed, num_blocks in enumerate((1, 3, 5)):
        check(Emulated(workload(rows, dtype), rows=32, num_blocks=num_blocks), seed)


# The second product's tiles of 128 features end in the middle where hidden_size is no multiple.
@pytest.mark.parametrize("sizes", [(64, 64), (320, 192)])
def test_sizes_that_are_no_whole_tiles_are_computed_whole(sizes: tuple[int, int]) -> None:
    check(Emulated(workload(ROWS["random"], "bf16", *sizes), rows=32, num_blocks=3), seed=4)


def test_a_variant_with_its_own_stages_agrees_too() -> None:
    work = workload(ROWS["hot"], "fp8_block")
    check(Emulated(work, rows=128, num_blocks=3, num_stages=None), seed=5)


@pytest.mark.parametrize("dtype", ["bf16", "fp8_block"])
def test_shared_tiles_are_the_same_bits_whoever_finishes_them(dtype: str) -> None:
    emulated = Emulated(workload(ROWS["one row"], dtype, 1280, 640), rows=32, num_blocks=7)
    found = []
    for seed in (6, 7, 8):
        check(emulated, seed)
        of = emulated.buffers
        tensors = (of.hidden, emulated.scratch.row_outputs, of.outputs)
        found.append(tuple(tensor.clone() for tensor in tensors))

    # Blocks did share tiles.
    assert emulated.scratch.partials[: 7 * 4 * 128 * 32].isfinite().any()
    for other in found[1:]:
        assert all(torch.equal(one, same) for one, same in zip(found[0], other, strict=True))


def test_tokens_without_rows_here_are_zeros() -> None:
    emulated = Emulated(workload(ROWS["one row"], "bf16"), rows=32, num_blocks=3)
    emulated.launch(seed=9)

    assert emulated.buffers.outputs.shape[1] > 1
    assert not emulated.buffers.outputs[0, 1:].any()


@pytest.mark.parametrize(
    ("dtype", "name"), [("bf16", "counters"), ("fp8_block", "counters"), ("fp8_block", "partials")]
)
def test_scratch_is_used_to_its_end(dtype: str, name: str) -> None:
    emulated = Emulated(workload(ROWS["hot"], dtype), rows=32, num_blocks=5)
    less = getattr(emulated.scratch, name)[:-1]
    emulated.scratch = replace(emulated.scratch, **{name: less})

    with pytest.raises(RuntimeError, match="registered range"):
        emulated.launch(seed=10)


def test_what_it_does_not_take_is_refused() -> None:
    assert wgmma.refusal(workload(ROWS["hot"], "bf16", 192, 64)) is None
    assert "multiples of 64 in bf16, got 96 and 64" in str(
        wgmma.refusal(workload(ROWS["hot"], "bf16", 96, 64))
    )
    assert "multiples of 128 in fp8_block, got 128 and 192" in str(
        wgmma.refusal(workload(ROWS["hot"], "fp8_block", 128, 192))
    )
    assert "not fp16" in str(wgmma.refusal(workload(ROWS["hot"], "fp16")))


def test_only_hopper_has_it() -> None:
    assert [name for name in ARCHITECTURES if wgmma.variants(name)] == ["sm_90a"]


@pytest.mark.parametrize(("most", "rows"), [(1, 16), (16, 16), (17, 32), (128, 128), (999, 128)])
def test_without_tuning_the_fullest_expert_decides(most: int, rows: int) -> None:
    assert wgmma.default_rows(most) == rows


def test_warpgroups_share_out_the_registers_that_a_launch_has() -> None:
    pytest.importorskip("cuda.core")
    text = (kernels_folder() / "experts_wgmma.cu").read_text(encoding="utf-8")
    given, taken = (int(count) for count in re.findall(r"(?:give|take)_registers<(\d+)>", text))
    registers = usage_of(compile_variant(wgmma.variants("sm_90a")[0], "sm_90a")).registers

    # Asked for more than a launch has, take_registers would wait for ever.
    assert 128 * given + 256 * taken <= wgmma.NUM_THREADS * registers


# d[64, 16] = a[64, 64] * b[16, 64]^T in bf16, as one warpgroup, or with one fault.
PRODUCT = """
struct Product { const u8* a; const u8* b; float* d; int fault; };
DEVICE void bring(u32 to, const u8* from, int rows) {
    for (int i = threadIdx.x; i < rows * 8; i += 128) {
        copy_async_16(to + (i / 8) * 128 + ((i % 8 ^ (i / 8 & 7)) << 4), from + i * 16, true);
    }
}
KERNEL(128, 1) multiplies(PARAMETER Product p) {
    SHARED_MEMORY(shared);
    const u32 a = shared_address(shared), b = a + 8192, barrier = b + 2048;
    if (threadIdx.x == 0) barrier_init(barrier, p.fault == 1 ? 64 : 128);
    __syncthreads();
    bring(a, p.a, 64);
    bring(b, p.b, 16);
    copy_async_commit();
    copy_async_wait<0>();
    if (p.fault != 2) fence_async_proxy();
    barrier_arrive(barrier);
    barrier_wait(barrier, 0);
    float d[8];
    if (p.fault != 3) warpgroup_arrive();
    for (int k = 0; k < 4; ++k) {
        warpgroup_mma_bf16(d, swizzled_tile(a) + 2 * k, swizzled_tile(b) + 2 * k, k > 0);
    }
    if (p.fault != 4) warpgroup_commit();
    if (p.fault != 5) warpgroup_wait<0>();
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
    for (int i = 0; i < 8; ++i) {
        p.d[(row + i / 2 % 2 * 8) * 16 + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
    }
    if (p.fault == 5) warpgroup_wait<0>();
}
"""


class Product(ctypes.Structure):
    _fields_ = (
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("d", ctypes.c_void_p),
        ("fault", ctypes.c_int32),
    )


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> host.HostKernel:
    source = tmp_path_factory.mktemp("product") / "product.cu"
    source.write_text(PRODUCT, encoding="utf-8")
    return host.host_kernel(str(source), "multiplies", defines=(), headers=("wgmma.cuh",))


def multiplied(product: host.HostKernel, fault: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(fault)
    a, b = (torch.randn(rows, 64, generator=generator).bfloat16() for rows in (64, 16))
    d = torch.empty(64, 16)
    arguments = Product(a.data_ptr(), b.data_ptr(), d.data_ptr(), fault)
    product.launch(1, 128, arguments, shared_bytes=8192 + 2048 + 8, seed=fault)
    return d, a.double() @ b.double().t()


def test_the_shims_products_have_the_fragments_of_ptx(product: host.HostKernel) -> None:
    found, exact = multiplied(product, fault=0)

    assert error(found, exact) < 1e-6


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (1, "deadlock"),
        (2, "before its fence"),
        (3, "without a warpgroup_arrive"),
        (4, "not committed"),
    ],
)
def test_the_shim_reports_what_a_gpu_would_not(
    product: host.HostKernel, fault: int, said: str
) -> None:
    with pytest.raises(RuntimeError, match=said):
        multiplied(product, fault)


def test_sums_are_poison_until_they_are_waited_for(product: host.HostKernel) -> None:
    found, _ = multiplied(product, fault=5)

    assert found.isnan().all()
