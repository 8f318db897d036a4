from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moeprof.errors import DeviceUnavailable, KernelUnsupported
from moeprof.kernel.cuda import host
from moeprof.resources import kernels_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(host.refusal() is not None, reason=str(host.refusal()))

LANES = np.arange(32)
SEEDS = range(8)
SHARED_BYTES = 2048

# Each case is one function; `in`, `more` and `out` are what the case makes of them.
CASES = r"""
struct Case { const u8* in; const u8* more; u8* out; u32* counter; int which; int n; };

DEVICE u32* words(const Case& c) { return reinterpret_cast<u32*>(c.out); }
DEVICE u32 word(const Case& c, int i) { return reinterpret_cast<const u32*>(c.in)[i]; }

DEVICE void products(const Case& c, bool fp8, bool by_device_text) {
    const int lane = threadIdx.x;
    u32 a[4], b[2];
    float d[4];
    for (int i = 0; i < 4; ++i) a[i] = word(c, lane * 4 + i);
    for (int i = 0; i < 2; ++i) b[i] = reinterpret_cast<const u32*>(c.more)[lane * 2 + i];
    for (int i = 0; i < 4; ++i) d[i] = reinterpret_cast<const float*>(c.out)[lane * 4 + i];
    if (by_device_text) device_mma_fp8(d, a, b);
    else if (fp8) mma_fp8(d, a, b);
    else mma_bf16(d, a, b);
    for (int i = 0; i < 4; ++i) reinterpret_cast<float*>(c.out)[lane * 4 + i] = d[i];
}

DEVICE void matrices(const Case& c, u32 base) {
    const u32 lane = threadIdx.x;
    for (int i = 0; i < 4; ++i)
        store_shared_16(base + (lane * 4 + i) * 16,
                        reinterpret_cast<const uint4*>(c.in)[lane * 4 + i]);
    __syncwarp();
    u32 r[4];
    load_matrix_x4(r, base + reinterpret_cast<const u32*>(c.more)[lane]);
    for (int i = 0; i < 4; ++i) words(c)[lane * 4 + i] = r[i];
}

DEVICE void copies(const Case& c, u32 base) {
    for (int i = 0; i < 3; ++i) {
        copy_async_16(base + i * 16, c.in + i * 16, i != 1);
        copy_async_commit();
    }
    uint4* const out = reinterpret_cast<uint4*>(c.out);
    for (int i = 0; i < 3; ++i) out[i] = load_shared_16(base + i * 16);
    copy_async_wait<1>();
    for (int i = 0; i < 3; ++i) out[3 + i] = load_shared_16(base + i * 16);
    copy_async_wait<0>();
    for (int i = 0; i < 3; ++i) out[6 + i] = load_shared_16(base + i * 16);
}

DEVICE void exchange(const Case& c) {
    const u32 all = 0xFFFFFFFF, v = word(c, threadIdx.x);
    u32 at = threadIdx.x;
    const auto put = [&](u32 value) { words(c)[at] = value; at += 32; };
    put(__shfl_sync(all, v, 5));
    put(__shfl_sync(all, v, 11, 8));
    put(__shfl_xor_sync(all, v, 16));
    put(__shfl_xor_sync(all, v, 3, 8));
    put(__shfl_down_sync(all, v, 4));
    put(__shfl_up_sync(all, v, 3, 16));
    put(__ballot_sync(all, v % 3 == 0));
    put(__any_sync(all, v == word(c, 7)));
    put(__all_sync(all, v != word(c, 7)));
    put(__reduce_max_sync(all, v));
    const u32 half = threadIdx.x < 16 ? 0xFFFF : 0xFFFF0000;
    put(__reduce_add_sync(half, v));
    put(static_cast<u32>(__shfl_xor_sync(all, static_cast<float>(threadIdx.x), 1)));
}

DEVICE void meet(const Case& c) {  // the last block sees what all others wrote
    words(c)[blockIdx.x] = blockIdx.x + 1;
    add_acquire_release(c.counter, 1);
    while (load_acquire(c.counter) < gridDim.x) relax();
    u32 sum = 0;
    for (u32 i = 0; i < gridDim.x; ++i) sum += words(c)[i];
    words(c)[gridDim.x + blockIdx.x] = sum;
}

DEVICE void neighbours(const Case& c, u32 base, bool wait) {
    const u32 t = threadIdx.x;
    store_shared_float(base + 4 * t, static_cast<float>(t));
    if (wait) __syncthreads();
    reinterpret_cast<float*>(c.out)[t] = load_shared_float(base + 4 * ((t + 32) % blockDim.x));
}

DEVICE void convert(const Case& c) {
    const float* const in = reinterpret_cast<const float*>(c.in);
    for (int i = 0; i < c.n; ++i) {
        const u32 both = pack_bf16(in[i], -in[i]), eight = pack_e4m3(in[i], 1.0f, 2.0f, -in[i]);
        words(c)[4 * i] = both;
        words(c)[4 * i + 1] = eight;
        words(c)[4 * i + 2] = __float_as_uint(from_bf16(to_bf16(in[i])));
        words(c)[4 * i + 3] = e4m3_bits(in[i]);
    }
}

DEVICE void expand(const Case& c) {
    for (int i = 0; i < 256; i += 4)
        for (int two = 0; two < 2; ++two)
            words(c)[i / 2 + two] = fp16_of_e4m3(word(c, i / 4), two);
}

DEVICE int deep(int n) {
    volatile u8 much[4096];
    much[n % 4096] = 1;
    return n ? deep(n - 1) + much[0] : 0;
}

KERNEL(96, 1) run_case(PARAMETER Case c) {
    SHARED_MEMORY(shared);
    const u32 base = shared_address(shared), t = threadIdx.x;
    int small[4] = {1, 2, 3, 4};
    switch (c.which) {
        case 0: products(c, false, false); break;
        case 1: products(c, true, false); break;
        case 2: products(c, true, true); break;
        case 3: matrices(c, base); break;
        case 4: copies(c, base); break;
        case 5: exchange(c); break;
        case 6: if (t == 0) meet(c); break;
        case 7: neighbours(c, base, false); break;
        case 8: neighbours(c, base, true); break;
        case 9: convert(c); break;
        case 10: expand(c); break;
        case 11: words(c)[atomicAdd(c.counter, 1)] = blockIdx.x * blockDim.x + t; break;
        case 12: {
            const int count = __syncthreads_count(t % 3 == 0), any = __syncthreads_or(t == 40);
            words(c)[t] = count * 1000 + any;
            break;
        }
        case 14: {
            u8* const to = shared;
            const u8* const from = c.in;
            if (t == 0) moeprof_host::defer([=] { std::memcpy(to, from, 4); });
            moeprof_host::wait_until([=] { return to[0] != 0xFF; }, "the copy",
                                     moeprof_host::Site::current());
            words(c)[t] = *reinterpret_cast<u32*>(shared);
            break;
        }
        case 15: {
            u32& mine = moeprof_host::thread_state<u32>();
            u32& all = moeprof_host::block_state<u32>();
            mine += t;
            if (t < 64) {
                all += mine;
                moeprof_host::block_barrier(1, 64, "half", moeprof_host::Site::current());
                words(c)[t] = all;
            }
            break;
        }
        case 13: {
            u32 sum = 0;
            for (int i = 0; i < 16; ++i) sum += shared[i];
            words(c)[0] = sum;
            break;
        }
        // Faults, in the order of FAULTS.
        case 100: if (t == 0) while (!load_acquire(c.counter)) relax(); __syncthreads(); break;
        case 101: while (!__any_sync(0xFFFFFFFF, load_acquire(c.counter) != 0)) relax(); break;
        case 102: if (t == 0) __syncwarp(); else __shfl_sync(0xFFFFFFFF, t, 0); break;
        case 103: if (t == 0) return; __ballot_sync(0xFFFFFFFF, 1); break;
        case 104:
            if (t == 0) __syncthreads();
            else __syncthreads();
            break;
        case 105: load_shared_16(base + 8); break;
        case 106: load_shared_16(base + 2048); break;
        case 107: copy_async_16(0, c.in, true); break;
        case 108: copy_async_16(base, c.in + 4, true); break;
        case 109: copy_async_16(base + t * 16, c.in, true); copy_async_commit(); break;
        case 110: copy_async_16(base + t * 16, c.in, true); copy_async_wait<0>(); break;
        case 111: words(c)[0] = deep(1000000); break;
        case 112: *reinterpret_cast<volatile u32*>(64ull) = 1; break;
        case 113: words(c)[0] = small[c.n]; break;
        case 114: words(c)[0] = 1u << c.n; break;
        case 115: *reinterpret_cast<u32*>(c.out + 2) = 1; break;
        case 116: words(c)[0] = 7 / (c.n - 40); break;
        case 117: *const_cast<volatile u8*>(shared + 2048) = 0; break;
        case 118: *const_cast<volatile u8*>(shared + (1 << 14)) = 0; break;
        case 119: shared_address(c.out); break;
        case 120: if (t == 0) moeprof_host::defer([] {}); break;
        case 121: moeprof_host::wait_until([] { return false; }, "godot",
                                           moeprof_host::Site::current()); break;
        case 122: if (t < 16) moeprof_host::block_barrier(2, 32, "half",
                                                          moeprof_host::Site::current()); break;
        // What the registered ranges decide.
        case 200: load_fresh_16(c.in); break;
        case 201: atomicAdd(reinterpret_cast<u32*>(const_cast<u8*>(c.in)), 1); break;
        case 202: load_streaming_16(c.out); break;
        case 203: load_streaming_16(c.in); load_fresh_16(c.out); store_relaxed(words(c), 1); break;
    }
}
"""

FAULTS = {
    100: r"deadlock: .*31 of block \(0, 0, 0\): __syncthreads at case.cu:\d+; 1 of .*: (re|lo)",
    101: r"deadlock: .*of block \(0, 0, 0\): (__any_sync|load_acquire) at",
    102: r"diverges: .*(__syncwarp|__shfl_sync)",
    103: r"deadlock|have ended",
    104: r"__syncthreads: other threads are at",
    105: r"case.cu:\d+: block \(0, 0, 0\) thread \(\d+, 0, 0\): .* is no multiple of 16",
    106: r"\(2048 from the start\) and 16 bytes leave the 2048 of the block",
    107: r"leave the 2048 of the block",
    108: r"global address 0x\w+ is no multiple of 16",
    109: r"1 copies, .* were never waited for$",
    110: r"never waited for nor committed",
    111: r"more stack than",
    112: r"an access to no memory .*0x40",
    113: r"an index beyond its array",
    114: r"a shift by more",
    115: r"a misaligned address",
    116: r"a division by zero",
    117: r"beyond the 2048 of the block, was written",
    118: r"beyond shared memory",
    119: r"not to shared memory",
    120: r"ends before its bulk copies",
    121: r"deadlock: .*32 of .*: godot at case.cu",
    122: r"deadlock: .*16 of .*: half at case.cu",
}


class Case(ctypes.Structure):
    _fields_ = (
        ("in", ctypes.c_void_p),
        ("more", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("counter", ctypes.c_void_p),
        ("which", ctypes.c_int),
        ("n", ctypes.c_int),
    )


def device_text() -> str:
    """device.cuh's own arithmetic for GPUs without e4m3, its two PTX instructions replaced."""
    text = (kernels_folder() / "device.cuh").read_text()
    names = ("u32 e4m3_bits", "u32 fp16_of_e4m3", "void mma_fp8")
    bodies = [
        re.findall(rf"^DEVICE {name}\(.*?^}}\n", text, re.DOTALL | re.MULTILINE)[-1]
        for name in names
    ]
    joined = "".join(bodies).replace("void mma_fp8", "void device_mma_fp8")
    replaced, count = re.subn(r'asm\("mul\.rn\.f16x2.*?;.*?\);', "v = times_256(small);", joined)
    assert count == 1
    return HALVES + replaced


# fp16 in C++ (IEEE 754), exact where device.cuh needs it.
HALVES = r"""
DEVICE float float_of_half(u32 h) {
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const float size = std::ldexp(mantissa + (exponent ? 1024.0f : 0.0f), max(exponent, 1) - 25);
    return h & 0x8000 ? -size : size;
}
DEVICE u32 half_of_float(float v) {
    const u32 sign = std::signbit(v) ? 0x8000 : 0;
    if (v == 0.0f) return sign;
    const int exponent = std::ilogb(v);
    return sign | static_cast<u32>((exponent + 15) << 10)
        | static_cast<u32>(std::ldexp(std::fabs(v), 10 - exponent) - 1024.0f);
}
DEVICE u32 times_256(u32 two) {
    return half_of_float(256.0f * float_of_half(two & 0xFFFF))
        | half_of_float(256.0f * float_of_half(two >> 16)) << 16;
}
DEVICE void mma_fp16(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    using moeprof_host::Fragments;
    const u32 a[4] = {a0, a1, a2, a3}, b[2] = {b0, b1};
    Fragments mine{d, a, b};
    moeprof_host::warp_collective("mma_fp16", 0xFFFFFFFF, true, mine, [](Fragments* (&lanes)[32]) {
        moeprof_host::multiply<16, 2>(lanes, [](u32 two, u32 i) {
            return float_of_half(two >> 16 * i & 0xFFFF);
        });
    }, moeprof_host::Site::current());
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOEPROF_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def cases(folder: Path) -> host.HostKernel:
    source = folder / "case.cu"
    source.write_text(device_text() + '#line 1 "case.cu"\n' + CASES)
    return host.host_kernel(str(source), "run_case", defines=())


def run(
    kernel: host.HostKernel,
    which: int,
    data: np.ndarray | None = None,
    more: np.ndarray | None = None,
    *,
    out: np.ndarray | None = None,
    n: int = 40,
    ranges: str = "",
    **shape: int,
) -> np.ndarray:
    """Run one case; `ranges` registers `data` and `out` for reading (r) or also writing (w)."""
    data = aligned(data if data is not None else np.zeros(256, np.uint32))
    more = aligned(more if more is not None else np.zeros(256, np.uint32))
    out = aligned(out if out is not None else np.zeros(2048, np.uint32))
    counter = aligned(np.zeros(4, np.uint32))
    allowed = [
        (array.ctypes.data, array.nbytes, access == "w")
        for array, access in zip((data, out), ranges, strict=False)
    ]
    kernel.launch(
        shape.get("grid", 1),
        shape.get("block", 32),
        Case(data.ctypes.data, more.ctypes.data, out.ctypes.data, counter.ctypes.data, which, n),
        shared_bytes=SHARED_BYTES,
        seed=shape.get("seed", 0),
        ranges=allowed or None,
    )
    return out


def aligned(array: np.ndarray) -> np.ndarray:
    space = np.empty(array.nbytes + 16, np.uint8)
    start = -space.ctypes.data % 16
    copy = space[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def fragments(a: np.ndarray, b: np.ndarray, per_register: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay out codes a `[16, k]` and b `[k, 8]` as PTX ISA says for m16n8k16 and m16n8k32."""
    g, t = LANES // 4, LANES % 4
    half = a.shape[1] // 2
    k = t[:, None] * per_register + np.arange(per_register)
    left = [a[g[:, None] + row, k + start] for start in (0, half) for row in (0, 8)]
    right = [b[k + start, g[:, None]] for start in (0, half)]
    return tuple(  # type: ignore[return-value]
        np.ascontiguousarray(np.stack(each, axis=1)).view(np.uint32).reshape(-1)
        for each in (left, right)
    )


def accumulators(d: np.ndarray) -> np.ndarray:
    """Return `[16, 8]` of the lanes' four values each."""
    g, t = LANES // 4, LANES % 4
    whole = np.empty((16, 8), np.float32)
    for i in range(4):
        whole[g + i // 2 * 8, 2 * t + i % 2] = d.reshape(32, 4)[:, i]
    return whole


def e4m3(codes: np.ndarray) -> np.ndarray:
    return torch.from_numpy(codes).view(torch.float8_e4m3fn).double().numpy()


@pytest.mark.parametrize("seed", SEEDS)
def test_bf16_product_is_that_of_the_matrices(cases: host.HostKernel, seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(shape, generator=made).bfloat16() for shape in ((16, 16), (16, 8)))
    start = torch.randn(32, 4, generator=made).numpy()
    left, right = fragments(
        *(each.view(torch.int16).numpy().view(np.uint16) for each in (a, b)), per_register=2
    )
    out = run(cases, 0, left, right, out=start, seed=seed)

    expected = accumulators(start) + (a.double() @ b.double()).numpy()
    np.testing.assert_allclose(accumulators(out), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", [1, 2], ids=["shim", "device.cuh by fp16"])
@pytest.mark.parametrize("seed", SEEDS)
def test_fp8_product_is_that_of_the_matrices(cases: host.HostKernel, which: int, seed: int) -> None:
    made = np.random.default_rng(seed)
    a, b = (made.integers(0, 256, shape, np.uint8) for shape in ((16, 32), (32, 8)))
    a[a & 0x7F == 0x7F] = b[b & 0x7F == 0x7F] = 0
    left, right = fragments(a, b, per_register=4)
    out = run(cases, which, left, right, out=np.zeros((32, 4), np.float32), seed=seed)

    expected = e4m3(a) @ e4m3(b)
    error = np.linalg.norm(accumulators(out) - expected) / np.linalg.norm(expected)
    assert error < 1e-6


def test_a_nan_reaches_its_row_of_the_product_only(cases: host.HostKernel) -> None:
    a, b = np.zeros((16, 32), np.uint8), np.full((32, 8), 0x38, np.uint8)
    a[3, 17] = 0xFF
    out = run(cases, 1, *fragments(a, b, per_register=4), out=np.zeros((32, 4), np.float32))

    assert np.isnan(accumulators(out)).any(axis=1).nonzero()[0].tolist() == [3]


def test_matrices_are_loaded_from_the_rows_that_the_lanes_name(cases: host.HostKernel) -> None:
    made = np.random.default_rng(1)
    memory = made.integers(0, 256, 2048, np.uint8)
    rows = made.permutation(128)[:32].astype(np.uint32) * 16
    out = run(cases, 3, memory, rows)[:128].reshape(32, 4)

    for matrix in range(4):
        named = memory.reshape(128, 16)[rows[8 * matrix : 8 * matrix + 8] // 16]
        expected = named.view(np.uint32)[LANES // 4, LANES % 4]
        np.testing.assert_array_equal(out[:, matrix], expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_copies_are_poison_until_their_wait(cases: host.HostKernel, seed: int) -> None:
    data = np.arange(1, 49, dtype=np.uint8)
    out = run(cases, 4, data, block=1, seed=seed).view(np.uint8)[:144].reshape(3, 3, 16)

    arrived = data.reshape(3, 16).copy()
    arrived[1] = 0
    assert (out[0] == 0xFF).all()
    np.testing.assert_array_equal(out[1, :2], arrived[:2])
    assert (out[1, 2] == 0xFF).all()
    np.testing.assert_array_equal(out[2], arrived)


def test_lanes_exchange_what_they_should(cases: host.HostKernel) -> None:
    v = np.random.default_rng(2).integers(0, 1000, 32).astype(np.uint32)
    out = run(cases, 5, v)[: 12 * 32].reshape(12, 32)

    up = np.where(LANES % 16 >= 3, LANES - 3, LANES)
    down = np.where(LANES < 28, LANES + 4, LANES)
    expected = [
        np.full(32, v[5]),
        v[LANES // 8 * 8 + 3],
        v[LANES ^ 16],
        v[LANES ^ 3],
        v[down % 32],
        v[up],
        np.full(32, sum(1 << int(lane) for lane in LANES[v % 3 == 0])),
        np.ones(32),
        np.zeros(32),
        np.full(32, v.max()),
        np.repeat([v[:16].sum(), v[16:].sum()], 16),
        LANES ^ 1,
    ]
    np.testing.assert_array_equal(out, np.array(expected))


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_wait_for_each_other(cases: host.HostKernel, seed: int) -> None:
    out = run(cases, 6, grid=5, block=64, seed=seed)

    assert out[5:10].tolist() == [15] * 5


def test_a_missing_barrier_shows_under_some_seed(cases: host.HostKernel) -> None:
    expected = ((np.arange(96) + 32) % 96).astype(np.float32)
    racing, waiting = (
        [run(cases, which, block=96, seed=seed).view(np.float32)[:96] for seed in SEEDS]
        for which in (7, 8)
    )

    assert any(np.isnan(each).any() for each in racing)
    assert all(np.array_equal(each, expected) for each in waiting)


def test_the_seed_decides_the_order_of_threads(cases: host.HostKernel) -> None:
    first, again, other = (
        run(cases, 11, grid=2, block=96, seed=seed)[:192].tolist() for seed in (1, 1, 2)
    )

    assert sorted(first) == list(range(192))
    assert first == again
    assert first != other


def test_a_block_counts_votes(cases: host.HostKernel) -> None:
    assert set(run(cases, 12, block=96)[:96].tolist()) == {32 * 1000 + 1}


def test_shared_memory_starts_poisoned(cases: host.HostKernel) -> None:
    assert run(cases, 13, block=1)[0] == 16 * 0xFF


@pytest.mark.parametrize("seed", SEEDS)
def test_deferred_operations_arrive_later(cases: host.HostKernel, seed: int) -> None:
    out = run(cases, 14, np.array([7], np.uint32), seed=seed)

    assert out[:32].tolist() == [7] * 32


def test_state_belongs_to_threads_and_blocks(cases: host.HostKernel) -> None:
    for _ in range(2):  # and not to the launch before
        assert run(cases, 15, block=96, grid=2)[:64].tolist() == [sum(range(64))] * 64


def values_to_round() -> np.ndarray:
    """Every bf16, random fp32 patterns, and every e4m3 value's and midpoint's neighbourhood."""
    codes = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    drawn = np.random.default_rng(3).integers(0, 1 << 32, 200_000, np.uint32).view(np.float32)
    sizes = e4m3(np.arange(127, dtype=np.uint8)).astype(np.float32)
    middles = np.concatenate([sizes, (sizes[1:] + sizes[:-1]) / 2])
    near = [middles, np.nextafter(middles, np.float32(1e9)), np.nextafter(middles, np.float32(-1))]
    small = np.random.default_rng(4).normal(0, 30, 50_000).astype(np.float32)
    return np.concatenate([codes, drawn, *near, *(-each for each in near), small])


def test_conversions_are_torchs(cases: host.HostKernel) -> None:
    values = values_to_round()
    out = run(cases, 9, values, out=np.zeros((values.size, 4), np.uint32), block=1, n=values.size)
    given = torch.from_numpy(values)
    is_nan = np.isnan(values)
    bf16 = given.bfloat16().view(torch.int16).numpy().view(np.uint16)
    # torch makes NaN of what is beyond 448 + 16; the GPU saturates.
    fp8 = given.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8).numpy()

    packed = out[:, 0]
    np.testing.assert_array_equal(packed[~is_nan] & 0xFFFF, bf16[~is_nan])
    np.testing.assert_array_equal(packed[~is_nan] >> 16, bf16[~is_nan] ^ 0x8000)
    assert (packed[is_nan] == 0x7FFF7FFF).all()
    np.testing.assert_array_equal(out[~is_nan, 2], bf16[~is_nan].astype(np.uint32) << 16)
    eight = out[:, 1]
    np.testing.assert_array_equal(eight[~is_nan] & 0xFF, fp8[~is_nan])
    np.testing.assert_array_equal(eight[~is_nan] >> 24, fp8[~is_nan] ^ 0x80)
    assert (eight >> 8 & 0xFFFF == 0x4038).all()
    assert (eight[is_nan] & 0xFF == 0x7F).all()
    np.testing.assert_array_equal(out[~is_nan, 3], fp8[~is_nan])


def test_device_text_widens_every_e4m3_code_exactly(cases: host.HostKernel) -> None:
    codes = np.arange(256, dtype=np.uint8)
    out = run(cases, 10, codes, block=1)[:128].view(np.float16)
    finite = codes & 0x7F != 0x7F

    np.testing.assert_array_equal(out[finite].astype(np.float64), e4m3(codes)[finite])
    assert np.array_equal(np.signbit(out[finite]), codes[finite] >= 0x80)


@pytest.mark.parametrize("which", FAULTS)
def test_a_fault_is_reported(cases: host.HostKernel, which: int) -> None:
    with pytest.raises(RuntimeError, match=FAULTS[which]):
        run(cases, which)

    assert run(cases, 13, block=1)[0] == 16 * 0xFF  # and the next launch is unharmed


@pytest.mark.parametrize(
    ("which", "ranges", "message"),
    [
        (200, "r", None),
        (203, "rw", None),
        (201, "r", "read-only"),
        (202, "rw", "non-coherent load from range 1"),
        (202, "r", "no registered range"),
    ],
)
def test_global_memory_is_what_was_registered(
    cases: host.HostKernel, which: int, ranges: str, message: str | None
) -> None:
    if message is None:
        run(cases, which, ranges=ranges)
        return
    with pytest.raises(RuntimeError, match=message):
        run(cases, which, ranges=ranges)


@pytest.mark.parametrize(
    ("grid", "block", "arguments", "shared_bytes", "message"),
    [
        (1, 128, Case(), 0, "1 blocks of 128 threads; KERNEL allows 1..96"),
        (0, 32, Case(), 0, "0 blocks"),
        (1, 32, ctypes.c_int(), 0, "argument 0 has 4 bytes; the kernel's has 40"),
        (1, 32, (Case(), ctypes.c_int()), 0, "2 arguments; the kernel has 1"),
        (1, 32, Case(), 1 << 20, "1048576 bytes of shared memory"),
    ],
)
def test_an_impossible_launch_is_refused(
    cases: host.HostKernel,
    grid: int,
    block: int,
    arguments: host.Arguments,
    shared_bytes: int,
    message: str,
) -> None:
    with pytest.raises(RuntimeError, match=message):
        cases.launch(grid, block, arguments, shared_bytes=shared_bytes)


ADD = r"""
KERNEL(8, 1) add(PARAMETER u64 out, PARAMETER int by) {
    const u32 at = ((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * 8
        + (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    reinterpret_cast<int*>(out)[at] = static_cast<int>(at) + by * TIMES;
}
"""


def test_a_library_is_built_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder / "add.cu"
    source.write_text(ADD)
    host.host_kernel(str(source), "add", defines=(("TIMES", "1"),))
    host._BUILT.clear()  # as in another process
    monkeypatch.setattr(host, "_compile", lambda *_: pytest.fail("it was built again"))
    kernel = host.host_kernel(str(source), "add", defines=(("TIMES", "1"),))
    out = np.zeros(96, np.int32)
    kernel.launch(
        (2, 3, 2), (2, 2, 2), (ctypes.c_uint64(out.ctypes.data), ctypes.c_int(5)), shared_bytes=0
    )

    assert out.tolist() == list(range(5, 101))
    with pytest.raises(pytest.fail.Exception, match="built again"):
        host.host_kernel(str(source), "add", defines=(("TIMES", "2"),))


def test_a_cache_that_cannot_be_written_means_building(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "add.cu").write_text(ADD)
    (tmp_path / "host").write_text("a file where the folder would be")
    monkeypatch.setenv("MOEPROF_CACHE", str(tmp_path))
    kernel = host.host_kernel(str(folder / "add.cu"), "add", defines=(("TIMES", "3"),))
    out = np.zeros(1, np.int32)
    kernel.launch(1, 1, (ctypes.c_uint64(out.ctypes.data), ctypes.c_int(5)), shared_bytes=0)

    assert out.tolist() == [15]
    # What cannot be kept is built once a process, not once a call.
    monkeypatch.setattr(host, "_compile", lambda *_: pytest.fail("it was built again"))
    assert host.host_kernel(str(folder / "add.cu"), "add", defines=(("TIMES", "3"),)) is kernel


def test_a_damaged_library_is_built_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "add.cu").write_text(ADD)
    monkeypatch.setenv("MOEPROF_CACHE", str(tmp_path))
    host.host_kernel(str(folder / "add.cu"), "add", defines=(("TIMES", "4"),))
    (kept,) = (tmp_path / "host").glob("*.so")
    kept.unlink()
    kept.write_bytes(b"no library")
    host._BUILT.clear()
    kernel = host.host_kernel(str(folder / "add.cu"), "add", defines=(("TIMES", "4"),))
    out = np.zeros(1, np.int32)
    kernel.launch(1, 1, (ctypes.c_uint64(out.ctypes.data), ctypes.c_int(5)), shared_bytes=0)

    assert out.tolist() == [20]


def test_what_does_not_compile_says_where(tmp_path: Path) -> None:
    (tmp_path / "wrong.cu").write_text("KERNEL(1, 1) wrong(PARAMETER int a) {\n    nonsense;\n}\n")

    with pytest.raises(KernelUnsupported, match=r"wrong.cu:2:5: error"):
        host.host_kernel(str(tmp_path / "wrong.cu"), "wrong", defines=())


def test_a_machine_without_a_compiler_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "no C++ compiler" in str(host.refusal())
    with pytest.raises(DeviceUnavailable, match="no C\\+\\+ compiler") as refused:
        host.host_kernel("read_only.cu", "read_only", defines=())
    assert "g++" in str(refused.value.hint)
