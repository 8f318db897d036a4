"""How many rows, columns and depth a program of the Triton kernels works on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

# vLLM's fallback where no file is tuned, `get_default_config` of fused_moe.py in 0.19.0 to 0.24.0.
# (Cost models hold the same facts for all engines' versions: moeprof/cost/tiles/defaults.py.)
_ROWS_BY_TOKENS: Final = ((32, 16), (96, 32), (512, 64))
_MOST_ROWS: Final = 128
_FEW_TOKENS: Final = 64
_FOUR_WARPS_TOKENS: Final = 128
_FOUR_STAGES_TOKENS: Final = 32
# wgmma and tcgen05: compute capability 12.0 has neither.
_WARPGROUP_MAJORS: Final = (9, 10)
# A block's shared memory by compute capability (CUDA C++ Programming Guide, table of technical
# specifications per compute capability).
_SHARED_KIB: Final = {(8, 0): 163, (8, 7): 163, (9, 0): 227, (10, 0): 227, (10, 3): 227}
_LEAST_SHARED_KIB: Final = 99
# Bytes of an activation and of a weight.
_BYTES: Final = {"bf16": (2, 2), "fp16": (2, 2), "fp32": (4, 4), "fp8_block": (2, 1)}


@dataclass(frozen=True, slots=True)
class Tile:
    """What a program loads in a step, and how it is spread.

    `num_rows` of tokens or hidden times `num_columns` rows of weights, both `depth` deep; the gate
    and up projection's columns are half gate and half up. `num_stages` steps are under way at once.
    """

    num_rows: int
    num_columns: int
    depth: int
    num_warps: int
    num_stages: int

    def __str__(self) -> str:
        """Return the tile in words, as a record keeps it."""
        return (
            f"block {self.num_rows}x{self.num_columns}x{self.depth}, {self.num_warps} warps, "
            f"{self.num_stages} stages"
        )

    def shared_bytes(self, weight_dtype: str) -> int:
        """Return the shared memory that its stages take."""
        row_bytes, weight_bytes = _BYTES[weight_dtype]
        step = self.num_rows * row_bytes + self.num_columns * weight_bytes
        return self.num_stages * self.depth * step


def default_tile(
    weight_dtype: str, num_tokens: int, capability: tuple[int, int] | None = None
) -> Tile:
    """Return vLLM's fallback for a step of `num_tokens`, in fp8 changed where registers ran out.

    There these kernels quantise what vLLM's find quantised: 64 rows want 8 warps for 4, and on GPUs
    without a warpgroup's products (9.x, 10.x) 16 rows are the most that is not spilled.
    """
    few = num_tokens <= _FEW_TOKENS
    if weight_dtype == "fp8_block":  # its scales want a depth of 128
        wide = capability is not None and capability[0] in _WARPGROUP_MAJORS and not few
        return Tile(64, 128, 128, 8, 3) if wide else Tile(16, 128, 128, 4, 3)
    return Tile(
        num_rows=next((rows for upto, rows in _ROWS_BY_TOKENS if num_tokens <= upto), _MOST_ROWS),
        num_columns=64 if few else 128,
        depth=128 if few else 64,
        num_warps=4 if num_tokens <= _FOUR_WARPS_TOKENS else 8,
        num_stages=4 if num_tokens <= _FOUR_STAGES_TOKENS else 3,
    )


def fitting(tile: Tile, weight_dtype: str, capability: tuple[int, int]) -> Tile:
    """Return the tile with as many of its stages as a block's shared memory holds, at least 1."""
    available = 1024 * _SHARED_KIB.get(capability, _LEAST_SHARED_KIB)
    while tile.num_stages > 1 and tile.shared_bytes(weight_dtype) > available:
        tile = replace(tile, num_stages=tile.num_stages - 1)
    return tile


def max_row_blocks(num_rows: int, num_experts: int, block_rows: int) -> int:
    """Return how many blocks of rows there are at most, however rows fall on experts.

    An expert with r rows has 1 + floor((r - 1) / block_rows) blocks; the sum is greatest where as
    many experts as possible have rows.
    """
    active = min(num_rows, num_experts)
    return active + (num_rows - active) // block_rows


def power_of_two(count: int) -> int:
    """Return the smallest power of two that is not below a positive count."""
    return 1 << (count - 1).bit_length()
