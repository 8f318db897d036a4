"""The CPU's own roofline, measured: how fast it reads memory and multiplies matrices."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import torch

from moeprof.device.protocol import Ceilings
from moeprof.device.torch_dtypes import PLAIN_DTYPES, TORCH_DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable

_CACHES = 3  # the buffer read is this many times the cache
_MAX_BUFFER_BYTES = 2**29
_READ_SECONDS = 0.15
_MULTIPLY_SECONDS = 0.2
_FIRST_SIDE, _LAST_SIDE = 256, 2048


def measure_ceilings(dtype: str, *, cache_bytes: int, free_bytes: int) -> Ceilings | None:
    """Return the best of a few reads and multiplications, in about half a second.

    None: torch cannot multiply this dtype on a CPU, or there is no memory to read.
    """
    if dtype not in PLAIN_DTYPES:
        return None
    wanted = min(_CACHES * cache_bytes, _MAX_BUFFER_BYTES)
    if wanted > free_bytes // 2:
        return None
    buffer = torch.ones(wanted // 4)
    seconds = _best(buffer.sum, _READ_SECONDS)
    flops = _flops_per_second(TORCH_DTYPES[dtype])
    return Ceilings(bytes_per_second=wanted / seconds, flops_per_second=flops, source="measured")


def _flops_per_second(dtype: torch.dtype) -> float:
    side, best = _FIRST_SIDE, 0.0
    deadline = time.perf_counter() + _MULTIPLY_SECONDS
    while True:
        left, right = torch.randn(2, side, side).to(dtype)
        seconds = _best(partial(torch.mm, left, right), 0.0)
        best = max(best, 2 * side**3 / seconds)
        side *= 2
        # Eight times the work, and twice, because the first call is not counted.
        if side > _LAST_SIDE or time.perf_counter() + 16 * seconds > deadline:
            return best


def _best(action: Callable[[], object], budget_seconds: float) -> float:
    action()
    best = float("inf")
    deadline = time.perf_counter() + budget_seconds
    while True:
        start = time.perf_counter()
        action()
        end = time.perf_counter()
        best = min(best, end - start)
        if end >= deadline:
            return best
