"""One configuration of a Triton expert kernel."""

from __future__ import annotations

from typing import NamedTuple


class Tile(NamedTuple):
    """A block computes `num_rows` rows by `num_columns`, `depth` elements of the inner size a step.

    It has `num_warps` warps and keeps `num_stages` steps in shared memory. Triton and the engines
    call these BLOCK_SIZE_M, BLOCK_SIZE_N, BLOCK_SIZE_K, num_warps and num_stages.
    """

    num_rows: int
    num_columns: int
    depth: int
    num_warps: int
    num_stages: int
