"""The tiles that points' kernels are known to take: from tuned files, else by the engine's rule."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.grouping import group_codes
from moeprof.cost.tiles.defaults import sglang_default, vllm_default
from moeprof.cost.tiles.files import tuned_tile
from moeprof.hardware.catalogue import gpu, gpu_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points
    from moeprof.cost.tiles.tile import Tile

_NAIVE_FACTOR: Final = 4
_UNKNOWN_SHARED_BYTES: Final = 228 * 1024.0  # per SM, of data-centre GPUs since Hopper

# How engines' Triton kernels are called, and the number formats that they compute in.
_VLLM_KERNEL: Final = "triton_tritonexperts"
_VLLM_KERNEL_ONCE: Final = "vllm_fused_moe"  # whatever ran: Triton for 16-bit weights before 0.19
_FIRST_VLLM_TOLD: Final = (0, 19)
_SGLANG_KERNEL: Final = "sglang_fused_moe_triton"
_WIDE: Final = frozenset({"bf16", "fp16"})
_FORMATS: Final = frozenset({"bf16", "fp16", "fp8", "fp8_block"})


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """The configuration of each point's kernel, [num_points] each; 0 where it is not known.

    `is_tuned` says that a file of the engine was tuned for the layer on the device.
    """

    num_rows: NDArray[np.int64]
    num_columns: NDArray[np.int64]
    depth: NDArray[np.int64]
    num_warps: NDArray[np.int64]
    num_stages: NDArray[np.int64]
    is_tuned: NDArray[np.bool_]

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Which points' kernels are known to take a tile, [num_points]."""
        known: NDArray[np.bool_] = self.num_rows > 0
        return known

    def take(self, index: NDArray[np.int64]) -> Tiles:
        """Return the tiles of some of the points, by their indices."""
        return Tiles(**{each.name: getattr(self, each.name)[index] for each in fields(self)})


def tiles_of(points: Points) -> Tiles:
    """Return the tiles of the points whose kernels are Triton's of vLLM or SGLang.

    They come from the engine's tuned file for the local experts, the expert size of one rank, the
    number format and the device, else from the engine's rule.
    """
    found = np.zeros((len(points), 5), dtype=np.int64)
    is_tuned = np.zeros(len(points), dtype=bool)
    engines = _engines_of(points)
    index = np.flatnonzero(engines >= 0)
    if len(index):
        experts = points.num_experts // points.ep_size
        sizes = points.expert_size // points.tp_size
        labels = (points.engine.codes, points.gpu.codes, points.weight_dtype.codes)
        codes = group_codes(
            [*(each.astype(np.int64) for each in labels), experts, sizes, points.batch_size], index
        )
        _, first, which = np.unique(codes, return_index=True, return_inverse=True)
        tiles = [
            _tile(
                points.engine.names[points.engine.codes[i]],
                points.gpu.names[points.gpu.codes[i]],
                points.weight_dtype.names[points.weight_dtype.codes[i]],
                (int(experts[i]), int(sizes[i])),
                int(points.batch_size[i]),
            )
            for i in index[first].tolist()
        ]
        found[index] = np.array([tile for tile, _ in tiles])[which]
        is_tuned[index] = np.array([tuned for _, tuned in tiles])[which]
    rows, columns, depth, warps, stages = found.T
    return Tiles(rows, columns, depth, warps, stages, is_tuned)


def blocks_of_rows(points: Points) -> NDArray[np.bool_]:
    """Return which points' kernels give every row a block of its own, [num_points].

    vLLM's Triton kernels do not sort rows by expert where no experts are left out (ep 1) and
    4 x tokens x top_k is at most the number of experts. Source: vLLM 0.24.0,
    fused_moe.py, `naive_block_assignment`; seen in H200's and L40S's tables, where latency
    follows rows below that bound and active experts above it.
    """
    few = points.batch_size * points.top_k * _NAIVE_FACTOR <= points.num_experts
    theirs = np.array([_VLLM_KERNEL in name for name in points.kernel.names], dtype=bool)
    found: NDArray[np.bool_] = few & (points.ep_size == 1) & theirs[points.kernel.codes]
    return found & (_engines_of(points) >= 0)


def shared_bytes_of(name: str) -> float:
    """Return the shared memory of an SM of the GPU, or a stand-in where it is not known."""
    found = gpu(name).shared_bytes_per_sm if name in gpu_names() else None
    return float(found or _UNKNOWN_SHARED_BYTES)


def _engines_of(points: Points) -> NDArray[np.int64]:
    """Return the engine whose Triton kernel each point ran, [num_points]; -1: no such kernel."""
    table = np.full(
        (len(points.engine.names), len(points.kernel.names), len(points.weight_dtype.names)), -1
    )
    for e, engine in enumerate(points.engine.names):
        for k, kernel in enumerate(points.kernel.names):
            for d, dtype in enumerate(points.weight_dtype.names):
                if _is_triton(engine, kernel, dtype):
                    table[e, k, d] = e
    found: NDArray[np.int64] = table[
        points.engine.codes, points.kernel.codes, points.weight_dtype.codes
    ]
    return found


def _is_triton(engine: str, kernel: str, weight_dtype: str) -> bool:
    name, version = _split(engine)
    if name == "vllm" and kernel == _VLLM_KERNEL_ONCE:
        return version < _FIRST_VLLM_TOLD and weight_dtype in _WIDE
    if name == "vllm":
        return _VLLM_KERNEL in kernel
    return name == "sglang" and kernel == _SGLANG_KERNEL and weight_dtype in _FORMATS


def _tile(
    engine: str, gpu_name: str, weight_dtype: str, sizes: tuple[int, int], num_tokens: int
) -> tuple[Tile, bool]:
    name, version = _split(engine)
    if tile := tuned_tile(name, _device_names(gpu_name), weight_dtype, sizes, num_tokens):
        return tile, True
    experts = sizes[0]
    if name == "vllm":
        return vllm_default(
            version, weight_dtype, num_experts=experts, num_tokens=num_tokens
        ), False
    return sglang_default(
        weight_dtype,
        num_experts=experts,
        num_tokens=num_tokens,
        shared_bytes=shared_bytes_of(gpu_name),
    ), False


@cache
def _split(engine: str) -> tuple[str, tuple[int, ...]]:
    """Return the engine's name and the numbers of its version; a missing version is the newest."""
    name, _, version = engine.partition(" ")
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:2])
    return name, numbers or (2**31,)


@cache
def _device_names(gpu_name: str) -> tuple[str, ...]:
    return gpu(gpu_name).device_names if gpu_name in gpu_names() else ()
