from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import pytest

from moeprof.kernel.cuda import host
from moeprof.kernel.cuda.read_only import READ_ONLY, ReadOnlyArguments

pytestmark = pytest.mark.skipif(host.refusal() is not None, reason=str(host.refusal()))


@cache
def kernel() -> host.HostKernel:
    return host.host_kernel(READ_ONLY.source, READ_ONLY.entry, defines=READ_ONLY.defines)


def fold(num_bytes: int, grid: int, *, spare: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return what the blocks folded, and the words that they were to read."""
    words = np.random.default_rng(num_bytes).integers(0, 2**32, num_bytes // 4 + 64, np.uint32)
    first = -words.ctypes.data % 16 // 4
    given = words[first : first + num_bytes // 4]
    outputs = np.full(grid, 0xFFFFFFFF, np.uint32)
    kernel().launch(
        grid,
        READ_ONLY.num_threads,
        ReadOnlyArguments(
            from_=given.ctypes.data, outputs=outputs.ctypes.data, num_bytes=num_bytes + spare
        ),
        shared_bytes=READ_ONLY.shared_bytes,
        seed=grid,
        ranges=[
            (given.ctypes.data, num_bytes, False),
            (outputs.ctypes.data, outputs.nbytes, True),
        ],
    )
    return outputs, given


# A warp reads 4096 bytes at a time, a block of eight warps 32768.
@pytest.mark.parametrize("grid", [1, 2, 5])
@pytest.mark.parametrize(
    "num_bytes", [0, 16, 4080, 4096, 4112, 32_768, 65_552, 70_000, 163_840, 200_016]
)
def test_every_word_is_read_once(num_bytes: int, grid: int) -> None:
    outputs, given = fold(num_bytes, grid)

    assert np.bitwise_xor.reduce(outputs) == np.bitwise_xor.reduce(given)


def test_work_is_spread_over_all_blocks() -> None:
    outputs, _ = fold(5 * 4096, 5)

    assert outputs.all()


def test_a_read_past_the_end_would_be_seen() -> None:
    with pytest.raises(RuntimeError, match="no registered range"):
        fold(4096, 1, spare=16)


def test_the_layout_is_that_of_the_source() -> None:
    assert ctypes.sizeof(ReadOnlyArguments) == 24
