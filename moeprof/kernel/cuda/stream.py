"""The weight-streaming expert kernel: its variants, what it takes, and the scratch it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moeprof.kernel.cuda.limits import refusal_of_sizes
from moeprof.kernel.cuda.variants import Variant, architecture_macro

if TYPE_CHECKING:
    from moeprof.workload.workload import Workload

NUM_THREADS: Final = 256
MAX_EXPERTS: Final = 512  # kMaxExperts of kernels/experts_stream.cu
MAX_ROWS: Final = 64  # of an expert at a time
_TILE: Final = 128
_FEATURES: Final = 64
_STAGE_BYTES: Final = 128 * 128
_MAX_STAGES: Final = 12
_FEWEST_STAGES: Final = 4
# Shared memory in KiB that a block may have, and a multiprocessor has, of which each block costs 1
# (CUDA C++ Programming Guide, technical specifications per compute capability).
_SHARED_KIB: Final = {
    "80": (163, 164),
    "86": (99, 100),
    "89": (99, 100),
    "90": (227, 228),
    "100": (227, 228),
    "103": (227, 228),
    "120": (99, 100),
}
# Two blocks leave 128 registers to a thread: fp8 spills from 16 rows on.
_MAX_ROWS_OF_TWO: Final = {"bf16": 16, "fp8_block": 8}
# Of hidden and expert sizes: copies of 16 bytes, and blocks of scales.
_STEPS: Final = {"bf16": 8, "fp8_block": 128}


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a variant is compiled: rows at a time, and blocks that share a multiprocessor."""

    dtype: str
    rows: int
    blocks: int

    @property
    def name(self) -> str:
        """The variant's name, as the tuned table has it."""
        return f"stream-{self.dtype}-r{self.rows}-b{self.blocks}"


def settings(architecture: str) -> tuple[StreamSettings, ...]:
    """Return the settings that fit an architecture's shared memory and registers."""
    every = (
        StreamSettings(dtype, rows, blocks)
        for dtype in _MAX_ROWS_OF_TWO
        for rows in (8, 16, 32, 64)
        for blocks in (1, 2)
    )
    return tuple(
        each
        for each in every
        if _num_stages(each, architecture) >= _FEWEST_STAGES
        and (each.blocks == 1 or each.rows <= _MAX_ROWS_OF_TWO[each.dtype])
    )


def variants(architecture: str) -> tuple[Variant, ...]:
    """Return the compiled forms for one architecture."""
    return tuple(variant(each, architecture) for each in settings(architecture))


def variant(chosen: StreamSettings, architecture: str) -> Variant:
    """Return the compiled form of one setting."""
    num_stages = _num_stages(chosen, architecture)
    shared_bytes = num_stages * _STAGE_BYTES + _other_shared_bytes(chosen)
    return Variant(
        name=chosen.name,
        source="experts_stream.cu",
        entry="experts_stream",
        defines=(
            ("FP8", str(int(chosen.dtype == "fp8_block"))),
            ("ROWS", str(chosen.rows)),
            ("STAGES", str(num_stages)),
            ("BLOCKS", str(chosen.blocks)),
            ("SHARED_BYTES", str(shared_bytes)),
        ),
        num_threads=NUM_THREADS,
        shared_bytes=shared_bytes,
        expects=("LDGSTS.E.BYPASS.LTC128B.128", "LDSM.16.M88.4", _product(chosen, architecture)),
        headers=("experts.cuh",),
    )


def refusal(workload: Workload) -> str | None:
    """Return why the kernel cannot run a workload on any GPU, or None."""
    return refusal_of_sizes(workload, _STEPS, max_experts=MAX_EXPERTS)


def num_partials(rows: int, num_blocks: int) -> int:
    """Return the fp32 values of `partials`: two tiles of each block, in each of two products."""
    return 2 * num_blocks * 2 * _TILE * rows


def num_counters(workload: Workload, num_tokens: int, rows: int) -> int:
    """Return the u32 values of `counters` (`counters_of` of the source lays them out)."""
    groups = min(workload.num_local_experts, workload.num_rows) + workload.num_rows // rows
    tiles_first = -(-workload.local_expert_size // _FEATURES)
    tiles_second = -(-workload.layer.hidden_size // _TILE)
    return 1 + groups * (1 + tiles_first + tiles_second) + num_tokens * tiles_second


def default_rows(max_rows_per_expert: int) -> int:
    """Return the rows at a time where nothing was tuned: enough for the fullest expert, to 64."""
    return next((rows for rows in (8, 16, 32) if max_rows_per_expert <= rows), MAX_ROWS)


def _product(chosen: StreamSettings, architecture: str) -> str:
    """Return the tensor cores' instruction: e4m3 has one of its own from 8.9 on, but not on 9.0."""
    if chosen.dtype == "fp8_block" and architecture_macro(architecture) in {"89", "120"}:
        return "QMMA.16832.F32"
    return "HMMA.16816.F32"


def _other_shared_bytes(chosen: StreamSettings) -> int:
    rows, scales = 2 * chosen.rows * 128, 2 * 2 * chosen.rows * 4
    return rows + scales + MAX_EXPERTS * 16 + (8 + 8 + chosen.rows) * 4


def _num_stages(chosen: StreamSettings, architecture: str) -> int:
    a_block, all_blocks = _SHARED_KIB[architecture_macro(architecture)]
    room = min(a_block, all_blocks // chosen.blocks - 1) * 1024 - _other_shared_bytes(chosen)
    return min(room // _STAGE_BYTES, _MAX_STAGES)
