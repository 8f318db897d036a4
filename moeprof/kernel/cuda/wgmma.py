"""The Hopper expert kernel: its variants, what it takes, and the scratch it needs."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moeprof.kernel.cuda.arguments import ExpertArguments
from moeprof.kernel.cuda.limits import refusal_of_sizes
from moeprof.kernel.cuda.variants import Variant

if TYPE_CHECKING:
    from moeprof.workload.workload import Workload

NUM_THREADS: Final = 384
MAX_EXPERTS: Final = 512  # kMaxExperts of kernels/experts_wgmma.cu
ARCHITECTURES: Final = ("sm_90a",)
_TILE: Final = 128
_FEATURES: Final = 64
_ROW_BYTES: Final = 128
# As many stages as 227 KiB of shared memory hold beside the tables, by rows at a time.
_NUM_STAGES: Final = {16: 11, 32: 10, 64: 8, 128: 6}
_FP8_BLOCK: Final = 128
_PACKED_BLOCK_BYTES: Final = 144  # kPackedBytes of the source
_STEPS: Final = {"bf16": 64, "fp8_block": _FP8_BLOCK}
_NOTES: Final = 32


class WgmmaArguments(ctypes.Structure):
    """`WgmmaArguments` of `kernels/experts_wgmma.cu`; tensor maps lie at multiples of 64."""

    _fields_ = (
        ("experts", ExpertArguments),
        ("_padding", ctypes.c_uint8 * (-ctypes.sizeof(ExpertArguments) % 64)),
        ("gate_up_map", ctypes.c_uint8 * 128),
        ("down_map", ctypes.c_uint8 * 128),
    )


@dataclass(frozen=True, slots=True)
class WgmmaSettings:
    """How a variant is compiled: the weights' dtype, and rows at a time."""

    dtype: str
    rows: int

    @property
    def name(self) -> str:
        """The variant's name, as the tuned table has it."""
        return f"wgmma-{self.dtype}-r{self.rows}"


def settings(architecture: str) -> tuple[WgmmaSettings, ...]:
    """Return the settings there are for an architecture: none but for Hopper."""
    if architecture not in ARCHITECTURES:
        return ()
    return tuple(WgmmaSettings(dtype, rows) for dtype in _STEPS for rows in _NUM_STAGES)


def variants(architecture: str) -> tuple[Variant, ...]:
    """Return the compiled forms for one architecture."""
    return tuple(variant(each) for each in settings(architecture))


def variant(chosen: WgmmaSettings) -> Variant:
    """Return the compiled form of one setting."""
    fp8 = chosen.dtype == "fp8_block"
    num_stages = _NUM_STAGES[chosen.rows]
    stage_bytes = (_TILE + chosen.rows) * _ROW_BYTES + (16 * chosen.rows if fp8 else 0) + 16
    table_bytes = 2 * (MAX_EXPERTS + 1) * 4 + (_NOTES + chosen.rows) * 4
    shared_bytes = num_stages * stage_bytes + table_bytes
    product = f"64x{chosen.rows}x{32 if fp8 else 16}"
    return Variant(
        name=chosen.name,
        source="experts_wgmma.cu",
        entry="experts_wgmma",
        defines=(
            ("FP8", str(int(fp8))),
            ("ROWS", str(chosen.rows)),
            ("STAGES", str(num_stages)),
            ("SHARED_BYTES", str(shared_bytes)),
        ),
        num_threads=NUM_THREADS,
        shared_bytes=shared_bytes,
        expects=(f"{'QGMMA' if fp8 else 'HGMMA'}.{product}.F32", "UTMALDG.5D", "UTMALDG.3D"),
        headers=("wgmma.cuh", "experts.cuh"),
    )


def refusal(workload: Workload) -> str | None:
    """Return why the kernel cannot run a workload on Hopper, or None."""
    return refusal_of_sizes(workload, _STEPS, max_experts=MAX_EXPERTS)


def grid(num_multiprocessors: int) -> int:
    """Return how many blocks to launch, cooperatively: one on each multiprocessor."""
    return num_multiprocessors


def num_partials(workload: Workload, num_tokens: int, rows: int, num_blocks: int) -> int:
    """Return the fp32 values of `partials` (`scratch_of` of the source lays them out).

    Two tiles of each block, in each of two products; with FP8 also tokens and hidden rows, packed.
    """
    parts = num_blocks * 4 * _TILE * rows
    if workload.weight_dtype != "fp8_block":
        return parts
    blocks = num_tokens * (workload.layer.hidden_size // _FP8_BLOCK)
    blocks += workload.num_rows * (workload.local_expert_size // _FP8_BLOCK)
    return parts + blocks * _PACKED_BLOCK_BYTES // ctypes.sizeof(ctypes.c_float)


def num_counters(workload: Workload, num_tokens: int, rows: int, num_blocks: int) -> int:
    """Return the u32 values of `counters` (`counters_of` of the source lays them out)."""
    num_experts = workload.num_local_experts
    groups = min(num_experts, workload.num_rows) + workload.num_rows // rows
    fp8 = workload.weight_dtype == "fp8_block"
    pairs = groups * (workload.local_expert_size // _FP8_BLOCK) if fp8 else 0
    combined = num_tokens * -(-workload.layer.hidden_size // _TILE)
    return 2 + 2 * num_blocks + num_experts + pairs + combined


def default_rows(max_rows_per_expert: int) -> int:
    """Return the rows at a time where nothing was tuned: enough for the fullest expert, to 128."""
    return next((rows for rows in _NUM_STAGES if max_rows_per_expert <= rows), max(_NUM_STAGES))
