from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch

from moeprof.kernel.attention import (
    MAX_RELATIVE_ERROR,
    SOFTMAX_SCALE,
    AttentionBuffers,
    AttentionWorkload,
    reference_attention,
)
from moeprof.kernel.cuda import host, mla
from moeprof.kernel.cuda.variants import ARCHITECTURES

pytestmark = pytest.mark.skipif(host.refusal() is not None, reason=str(host.refusal()))

LARGE, FEW = mla.settings("sm_90a")
MEDIUM = mla.settings("sm_80")[0]
SMALL = mla.settings("sm_89")[0]
MOST_JOINS = 40
MARGIN = 128 * 512
WIDTH = mla.LATENT_SIZE + mla.ROTARY_SIZE


@cache
def decode_kernel(chosen: mla.MlaSettings) -> host.HostKernel:
    variant = mla.decode_variant(chosen)
    return host.host_kernel(
        variant.source, variant.entry, defines=variant.defines, headers=variant.headers
    )


@cache
def combine_kernel() -> host.HostKernel:
    return host.host_kernel(mla.COMBINE.source, mla.COMBINE.entry, defines=())


@dataclass(frozen=True)
class Result:
    partials: torch.Tensor
    statistics: torch.Tensor
    outputs: torch.Tensor

    def joined(self) -> torch.Tensor:
        """What the parts amount to, joined in float64."""
        weights = torch.exp2(
            self.statistics[..., 0].double() - self.statistics[..., 0].amax(1, keepdim=True)
        )
        parts = torch.where(weights[..., None] > 0, self.partials.double(), 0.0)
        total = (weights * self.statistics[..., 1]).sum(1)
        return (weights[..., None] * parts).sum(1) / total[..., None]


def random_buffers(
    *, heads: int, contexts: tuple[int, ...], page_size: int | None = None, spread: float = 1.0
) -> AttentionBuffers:
    generator = torch.Generator().manual_seed(1000 * heads + sum(contexts))
    workload = AttentionWorkload(heads, 512, 64, len(contexts), max(contexts), page_size)
    num_pages = len(contexts) * workload.pages_per_request

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).bfloat16()

    cache = normal(1, num_pages, page_size or max(contexts), WIDTH)
    pages = torch.randperm(num_pages, generator=generator, dtype=torch.int32)
    return AttentionBuffers(
        workload=workload,
        l2_state="warm",
        queries=(normal(1, len(contexts), heads, WIDTH) * spread).bfloat16(),
        cache=cache,
        pages=None if page_size is None else pages.view(len(contexts), -1),
        context_lengths=torch.tensor(contexts, dtype=torch.int32),
        outputs=torch.full((1, len(contexts), heads, 512), float("nan"), dtype=torch.bfloat16),
    )


def unwritten(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """NaN, with as many as MARGIN values of them before and behind."""
    everything = torch.full((math.prod(shape) + 2 * MARGIN,), float("nan"), dtype=dtype)
    return everything[MARGIN:-MARGIN].view(shape)


def run(
    buffers: AttentionBuffers, chosen: mla.MlaSettings, num_splits: int, *, seed: int = 0
) -> Result:
    workload = buffers.workload
    sizes = (workload.batch_size, num_splits, workload.num_heads)
    partials = unwritten(*sizes, 512)
    statistics = unwritten(*sizes, 2)
    outputs = unwritten(workload.batch_size, workload.num_heads, 512, dtype=torch.bfloat16)
    read = [buffers.queries, buffers.cache, buffers.context_lengths]
    if buffers.pages is not None:
        read.append(buffers.pages)

    decode = mla.MlaArguments(
        queries=buffers.queries.data_ptr(),
        cache=buffers.cache.data_ptr(),
        pages=None if buffers.pages is None else buffers.pages.data_ptr(),
        context_lengths=buffers.context_lengths.data_ptr(),
        partials=partials.data_ptr(),
        statistics=statistics.data_ptr(),
        num_heads=workload.num_heads,
        num_splits=num_splits,
        page_size=buffers.cache.shape[2],
        pages_per_request=workload.pages_per_request,
        scale_log2=SOFTMAX_SCALE * math.log2(math.e),
    )
    decode_kernel(chosen).launch(
        mla.decode_grid(chosen, workload.batch_size, workload.num_heads, num_splits),
        mla.decode_variant(chosen).num_threads,
        decode,
        shared_bytes=chosen.shared_bytes,
        seed=seed,
        ranges=ranges(*read, writable=False) + ranges(partials, statistics, writable=True),
    )
    result = Result(partials, statistics, outputs)
    # The host build makes a stack for every thread at once: 128 blocks of the join would be many.
    if workload.batch_size * workload.num_heads <= MOST_JOINS:
        combine(result, seed=seed)
    return result


def combine(result: Result, *, seed: int = 0) -> None:
    num_requests, num_splits, num_heads, _ = result.statistics.shape
    combine_kernel().launch(
        mla.combine_grid(num_requests, num_heads),
        mla.COMBINE.num_threads,
        mla.MlaCombineArguments(
            partials=result.partials.data_ptr(),
            statistics=result.statistics.data_ptr(),
            outputs=result.outputs.data_ptr(),
            num_heads=num_heads,
            num_splits=num_splits,
        ),
        shared_bytes=0,
        seed=seed,
        ranges=[
            *ranges(result.partials, result.statistics, writable=False),
            *ranges(result.outputs, writable=True),
        ],
    )


def ranges(*tensors: torch.Tensor, writable: bool) -> list[tuple[int, int, bool]]:
    return [(each.data_ptr(), each.nbytes, writable) for each in tensors]


def off(found: torch.Tensor, exact: torch.Tensor) -> float:
    norm = torch.linalg.vector_norm
    return float(norm(found.double() - exact) / norm(exact))


@pytest.mark.parametrize("chosen", [LARGE, MEDIUM, FEW, SMALL], ids=lambda each: each.name)
@pytest.mark.parametrize(
    ("heads", "contexts", "num_splits"),
    [
        (16, (1,), 1),
        (16, (100,), 3),
        (128, (64,), 2),
        (128, (257,), 5),
        (40, (100,), 2),  # the last block's heads are not all there
        (8, (15, 257, 100), 4),
    ],
    ids=str,
)
def test_outputs_agree_with_float64(
    chosen: mla.MlaSettings, heads: int, contexts: tuple[int, ...], num_splits: int
) -> None:
    buffers = random_buffers(heads=heads, contexts=contexts)

    result = run(buffers, chosen, num_splits, seed=heads)

    exact = reference_attention(buffers, 0)
    assert off(result.joined().bfloat16(), exact) <= MAX_RELATIVE_ERROR
    if len(contexts) * heads <= MOST_JOINS:
        assert off(result.outputs, exact) <= MAX_RELATIVE_ERROR
    # Before outputs are rounded, the weights' rounding to bf16 is nearly all that is left: a few of
    # tens of thousands lie so near to the middle that fp32 scores send them to the other side.
    rounded = reference_attention(buffers, 0, rounded_weights=True)
    assert off(result.joined(), rounded) <= 3e-4


@pytest.mark.parametrize("chosen", [LARGE, FEW], ids=lambda each: each.name)
@pytest.mark.parametrize("spread", [30.0, 1000.0])
def test_large_logits_do_not_overflow(chosen: mla.MlaSettings, spread: float) -> None:
    buffers = random_buffers(heads=16, contexts=(257,), spread=spread)

    result = run(buffers, chosen, 3)

    assert torch.isfinite(result.outputs).all()
    assert off(result.outputs, reference_attention(buffers, 0)) <= MAX_RELATIVE_ERROR


def test_growing_maxima_scale_what_was_summed() -> None:
    buffers = random_buffers(heads=16, contexts=(257,))
    # Every token's scores exceed those of all before it.
    buffers.queries.copy_(buffers.queries.abs())
    rising = torch.linspace(0.1, 4.0, 257)[:, None] * buffers.cache[0, 0, :1].abs().float()
    buffers.cache[0, 0] = rising.bfloat16()

    for chosen in (LARGE, FEW):
        result = run(buffers, chosen, 1)

        assert off(result.outputs, reference_attention(buffers, 0)) <= MAX_RELATIVE_ERROR


def test_the_number_of_splits_does_not_change_the_result() -> None:
    buffers = random_buffers(heads=128, contexts=(257,))

    results = [run(buffers, LARGE, num_splits).joined() for num_splits in range(1, 6)]

    assert max(off(each, results[0]) for each in results) <= 1e-6


@pytest.mark.parametrize("chosen", [LARGE, FEW], ids=lambda each: each.name)
def test_the_order_of_threads_and_blocks_does_not_change_a_bit(chosen: mla.MlaSettings) -> None:
    buffers = random_buffers(heads=20, contexts=(100, 33))

    first, *others = (run(buffers, chosen, 3, seed=seed) for seed in range(4))

    for other in others:
        assert torch.equal(first.statistics, other.statistics)
        assert torch.equal(first.outputs, other.outputs)


@pytest.mark.parametrize("num_splits", [1, 9, 40])
def test_parts_are_joined_by_their_share_of_the_softmax(num_splits: int) -> None:
    generator = torch.Generator().manual_seed(num_splits)
    sizes = (3, num_splits, 5)
    statistics = torch.rand(*sizes, 2, generator=generator) * 100
    statistics[..., 0] = (statistics[..., 0] - 90).round() * 0.1
    partials = torch.randn(*sizes, 512, generator=generator)
    if num_splits > 1:
        # One without tokens, and one that weighs nothing.
        statistics[:, 3] = torch.tensor([-math.inf, 0.0])
        partials[:, 3] = float("nan")
        statistics[:, 5, :, 0] = -1e6
    result = Result(partials, statistics, torch.empty(3, 5, 512, dtype=torch.bfloat16))

    combine(result)

    # Nothing but fp32 sums and the outputs' rounding is between them.
    assert off(result.outputs, result.joined().bfloat16().double()) <= 1e-4


@pytest.mark.parametrize("page_size", [1, 16, 37])
def test_pages_in_any_order_are_read_as_the_context_that_they_hold(page_size: int) -> None:
    buffers = random_buffers(heads=16, contexts=(100, 51), page_size=page_size)
    assert buffers.pages is not None
    in_order = buffers.cache[0][buffers.pages.flatten().long()].view(2, -1, WIDTH)
    contiguous = replace(
        buffers,
        workload=replace(buffers.workload, context_length=in_order.shape[1], page_size=None),
        cache=in_order[None],
        pages=None,
    )

    paged = run(buffers, SMALL, 2)

    assert torch.equal(paged.outputs, run(contiguous, SMALL, 2).outputs)
    assert off(paged.outputs, reference_attention(buffers, 0)) <= MAX_RELATIVE_ERROR


@pytest.mark.parametrize("chosen", [LARGE, FEW], ids=lambda each: each.name)
def test_a_split_without_tokens_writes_no_partials_and_does_no_harm(
    chosen: mla.MlaSettings,
) -> None:
    buffers = random_buffers(heads=16, contexts=(15, 100))

    result = run(buffers, chosen, 5)

    idle = result.statistics[..., 1] == 0
    assert idle[0].sum() == 4 * 16
    assert torch.isneginf(result.statistics[..., 0][idle]).all()
    assert torch.isnan(result.partials[idle]).all()
    assert torch.isfinite(result.partials[~idle]).all()
    assert off(result.outputs, reference_attention(buffers, 0)) <= MAX_RELATIVE_ERROR


def test_tokens_beyond_the_context_are_not_read() -> None:
    buffers = random_buffers(heads=16, contexts=(100, 70))
    expected = run(buffers, LARGE, 2).outputs
    buffers.cache[0, 1, 70:] = float("nan")

    assert torch.equal(run(buffers, LARGE, 2).outputs, expected)


def test_an_empty_context_gives_zeros() -> None:
    buffers = random_buffers(heads=16, contexts=(33, 20))
    buffers.context_lengths[1] = 0

    outputs = run(buffers, FEW, 2).outputs

    assert torch.isfinite(outputs[0]).all()
    assert not outputs[1].any()


@pytest.mark.parametrize("chosen", [LARGE, FEW], ids=lambda each: each.name)
def test_a_read_past_the_cache_would_be_seen(chosen: mla.MlaSettings) -> None:
    buffers = random_buffers(heads=16, contexts=(33,))
    buffers.context_lengths[0] = 34

    with pytest.raises(RuntimeError, match="no registered range"):
        run(buffers, chosen, 1)


@pytest.mark.parametrize("chosen", [LARGE, MEDIUM, FEW, SMALL], ids=lambda each: each.name)
def test_nothing_is_written_beside_the_results(chosen: mla.MlaSettings) -> None:
    buffers = random_buffers(heads=9, contexts=(70, 130))

    result = run(buffers, chosen, 2)

    for tensor in (result.partials, result.statistics, result.outputs):
        everything = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        assert torch.isnan(everything[:MARGIN]).all()
        assert torch.isnan(everything[-MARGIN:]).all()
        assert torch.isfinite(everything[MARGIN:-MARGIN]).all()


def test_the_reference_is_torchs_attention() -> None:
    buffers = random_buffers(heads=16, contexts=(100,))
    tokens = buffers.cache[0].double()

    exact = torch.nn.functional.scaled_dot_product_attention(
        buffers.queries[0].double(), tokens, tokens[..., :512], scale=SOFTMAX_SCALE
    )

    assert off(reference_attention(buffers, 0), exact) <= 1e-12


def test_every_setting_fits_its_architecture() -> None:
    # KiB of shared memory in a block: CUDA C++ Programming Guide, technical specifications.
    limits = {"sm_80": 163, "sm_86": 99, "sm_89": 99, "sm_120a": 99}

    for architecture in ARCHITECTURES:
        for chosen in mla.settings(architecture):
            assert chosen.shared_bytes <= limits.get(architecture, 227) * 1024


def test_contexts_are_split_to_fill_the_gpu_and_no_further() -> None:
    def splits(batch_size: int, context_length: int) -> int:
        return mla.num_splits(
            LARGE,
            num_requests=batch_size,
            num_heads=128,
            context_length=context_length,
            num_multiprocessors=132,
        )

    assert splits(1, 64) == 1
    assert 16 <= splits(1, 65_536) <= 66  # two head groups: at most one block a multiprocessor
    assert splits(66, 4_096) == 1
    assert splits(8, 8_192) * 8 * 2 <= 132


def test_layouts_are_those_of_the_sources() -> None:
    assert ctypes.sizeof(mla.MlaArguments) == 6 * 8 + 5 * 4 + 4
    assert ctypes.sizeof(mla.MlaCombineArguments) == 3 * 8 + 2 * 4
