"""The tile heights that an engine is known to take, from the tuned files it ships."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from moeprof.cost.grouping import group_codes
from moeprof.hardware.catalogue import gpu, gpu_names
from moeprof.resources import data_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points

_ENGINE: Final = "vllm"
_KERNEL: Final = "triton_tritonexperts"
_NAIVE_FACTOR: Final = 4

# vLLM 0.24.0, fused_moe.get_default_config: tile rows by number of tokens where no file is tuned.
_DEFAULT_STEPS: Final = ((32, 16), (96, 32), (512, 64))
_DEFAULT_LARGEST: Final = 128
_BLOCK_SCALED_STEPS: Final = ((64, 16),)
_BLOCK_SCALED_LARGEST: Final = 64


def tile_rows(points: Points) -> NDArray[np.int64]:
    """Return the rows of a tile that each point's kernel takes, [num_points]; 0: not known.

    Known are the Triton kernels of vLLM: their tuned file for (local experts, expert size of one
    rank, number format, device) at the nearest number of tokens, else vLLM's default rule.
    """
    return _looked_up(points)[0]


def is_tuned(points: Points) -> NDArray[np.bool_]:
    """Return which points have a tuned file of their engine, [num_points]."""
    return _looked_up(points)[1]


def blocks_of_rows(points: Points) -> NDArray[np.bool_]:
    """Return which points' kernels give every row a block of its own, [num_points].

    vLLM's Triton kernels do not sort rows by expert where no experts are left out (ep 1) and
    4 x tokens x top_k is at most the number of experts. Source: vLLM 0.24.0,
    fused_moe.py, `naive_block_assignment`; seen in H200's and L40S's tables, where latency
    follows rows below that bound and active experts above it.
    """
    few = points.batch_size * points.top_k * _NAIVE_FACTOR <= points.num_experts
    found: NDArray[np.bool_] = _ours(points) & few & (points.ep_size == 1)
    return found


def _ours(points: Points) -> NDArray[np.bool_]:
    ours = np.array([name.startswith(_ENGINE) for name in points.engine.names], dtype=bool)
    theirs = np.array([_KERNEL in name for name in points.kernel.names], dtype=bool)
    found: NDArray[np.bool_] = ours[points.engine.codes] & theirs[points.kernel.codes]
    return found


def _looked_up(points: Points) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    rows = np.zeros(len(points), dtype=np.int64)
    tuned = np.zeros(len(points), dtype=bool)
    index = np.flatnonzero(_ours(points))
    if not len(index):
        return rows, tuned
    experts = points.num_experts // points.ep_size
    sizes = points.expert_size // points.tp_size
    gpus, formats = points.gpu.codes, points.weight_dtype.codes
    codes = group_codes(
        [gpus.astype(np.int64), formats.astype(np.int64), experts, sizes, points.batch_size], index
    )
    _, first, which = np.unique(codes, return_index=True, return_inverse=True)
    found = [
        _tile(
            points.gpu.names[points.gpu.codes[i]],
            points.weight_dtype.names[points.weight_dtype.codes[i]],
            f"{experts[i]}x{sizes[i]}",
            int(points.batch_size[i]),
        )
        for i in index[first].tolist()
    ]
    rows[index] = np.array([each for each, _ in found])[which]
    tuned[index] = np.array([each for _, each in found])[which]
    return rows, tuned


def _tile(gpu_name: str, weight_dtype: str, sizes: str, num_tokens: int) -> tuple[int, bool]:
    for device in _device_names(gpu_name):
        if entry := _files().get(device, {}).get(weight_dtype, {}).get(sizes):
            tokens, heights = entry
            nearest = min(range(len(tokens)), key=lambda i: abs(tokens[i] - num_tokens))
            return int(heights[nearest]), True
    block_scaled = weight_dtype == "fp8_block"
    steps = _BLOCK_SCALED_STEPS if block_scaled else _DEFAULT_STEPS
    largest = _BLOCK_SCALED_LARGEST if block_scaled else _DEFAULT_LARGEST
    return next((rows for upto, rows in steps if num_tokens <= upto), largest), False


@cache
def _device_names(gpu_name: str) -> tuple[str, ...]:
    return gpu(gpu_name).device_names if gpu_name in gpu_names() else ()


@cache
def _files() -> dict[str, Any]:
    text = (data_folder() / "tiles" / "vllm.json").read_text(encoding="utf-8")
    tiles: dict[str, Any] = json.loads(text)["tiles"]
    return tiles
