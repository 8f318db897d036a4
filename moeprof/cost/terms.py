"""The terms that a step's seconds are made of: each grows with what the step has to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.cache import caches_per_expert, missed_fraction
from moeprof.cost.demand import datasheet_bytes_per_second, datasheet_flops_per_second
from moeprof.cost.tiles.chosen import blocks_of_rows, tiles_of
from moeprof.cost.tiles.waves import waves_of
from moeprof.hardware.catalogue import gpu, gpu_names
from moeprof.workload.dtypes import BYTES_PER_ELEMENT
from moeprof.workload.occupancy import TILE_ROWS
from moeprof.workload.workload import FLOPS_PER_WEIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points


class Part(IntEnum):
    """What a term is part of: overheads add up, of the other three the longest hides the rest."""

    LAUNCH = 0
    CHAIN = 1
    WEIGHTS = 2
    COMPUTE = 3


@dataclass(frozen=True, slots=True)
class Term:
    """One term: its part, and its coefficient before anything was measured."""

    name: str
    part: Part
    prior: float


_COMPUTE_TILES: Final = (16, 32, 64, 128)
_FULLEST_TILES: Final = (16, 64, 128)

TERMS: Final = (
    Term("launch", Part.LAUNCH, 1.0),
    Term("tokens", Part.LAUNCH, 1.0),
    Term("rows", Part.LAUNCH, 1.0),
    Term("root_rows", Part.LAUNCH, 0.3),
    Term("chain", Part.CHAIN, 1.0),
    Term("chain_per_root_active", Part.CHAIN, 0.3),
    Term("tile_steps", Part.CHAIN, 0.3),
    Term("whole_tile_steps", Part.CHAIN, 0.1),
    Term("weights", Part.WEIGHTS, 0.3),
    Term("weights_beyond_cache", Part.WEIGHTS, 0.7),
    Term("weights_in_tall_tiles", Part.WEIGHTS, 0.05),
    Term("weights_per_tile", Part.WEIGHTS, 0.05),
    Term("blocks", Part.WEIGHTS, 0.5),
    Term("weights_per_root_row", Part.WEIGHTS, 0.2),
    *(Term(f"tiles_{rows}", Part.COMPUTE, 0.15) for rows in _COMPUTE_TILES),
    Term("flops", Part.COMPUTE, 0.6),
    *(Term(f"fullest_{rows}", Part.COMPUTE, 0.1) for rows in _FULLEST_TILES),
    Term("root_fullest", Part.COMPUTE, 0.3),
    Term("tuned_tiles", Part.COMPUTE, 0.3),
    Term("tuned_blocks", Part.COMPUTE, 0.1),
)

PARTS: Final = np.array([term.part for term in TERMS])

# Priors: orders of magnitude that a fit begins from, and all that an unmeasured kernel has.
_LAUNCH_SECONDS: Final = 20e-6  # a routed expert call is five to eight kernels of 2 to 5 us
_LOOP_STEP_SECONDS: Final = 0.4e-6  # one step of a tile's loop: a load from memory and its use
_BLOCK_SECONDS: Final = 0.5e-6  # start and end of one thread block
_SMALL_SECONDS: Final = 0.1e-6
_LOOP_STEP_ELEMENTS: Final = 128
_BLOCK_ELEMENTS: Final = 128
_TALL_ROWS: Final = 64  # tiles from here on are made for computing, not for reading
_ALIGNED_ELEMENTS: Final = 64  # a tile's inner size: a narrower slice is computed in full
# Kernels that bring narrow weights to bf16 as they go: medians of 0.42 to 0.54 of the bandwidth
# over the decode rows of aiconfigurator-core 0.12's Hopper tables (Marlin, Triton mxfp4).
_DEQUANTISING_FACTOR: Final = 2.0
_NARROW_BYTES: Final = 0.9
_WIDE_BYTES: Final = 1.5
# Where a device is in no catalogue: of the size of a server CPU. A fit replaces it.
_UNKNOWN_BYTES_PER_SECOND: Final = 5e10
_UNKNOWN_FLOPS_PER_SECOND: Final = 5e11
_UNKNOWN_NUM_SMS: Final = 132.0


def term_seconds(points: Points) -> NDArray[np.float64]:
    """Return the seconds of each term at coefficient 1, [num_points, len(TERMS)], all >= 0.

    No term falls when the point gets more active experts, rows, or rows in its fullest expert; so
    what they join to, with coefficients >= 0, does not fall either. Another size or batch size may
    change an engine's tiles, and with them a term.
    """
    occupancy = points.occupancy
    active, rows, fullest = occupancy.num_active, occupancy.num_rows, occupancy.max_rows
    hidden = points.hidden_size.astype(np.float64)
    local = points.expert_size / points.tp_size
    projections = points.num_projections.astype(np.float64)
    num_bytes = points.weight_dtype.numbers(BYTES_PER_ELEMENT.__getitem__)
    row_bytes = points.activation_dtype.numbers(BYTES_PER_ELEMENT.__getitem__)
    bandwidth, peak = known_bandwidth(points), known_peak(points)
    num_sms = known_num_sms(points)

    narrow = (num_bytes < _NARROW_BYTES) & (row_bytes > _WIDE_BYTES)
    read = projections * hidden * local * num_bytes / bandwidth
    read = np.where(narrow, _DEQUANTISING_FACTOR * read, read)
    computed = np.ceil(local / _ALIGNED_ELEMENTS) * _ALIGNED_ELEMENTS
    row_compute = FLOPS_PER_WEIGHT * projections * hidden * computed / peak
    blocks = _blocks(hidden, local, projections) / num_sms * _BLOCK_SECONDS
    chain = _LOOP_STEP_SECONDS * (hidden + local) / _LOOP_STEP_ELEMENTS
    one = np.ones(len(points))
    tiles = dict(zip(TILE_ROWS, occupancy.tiles.T, strict=True))
    chosen = tiles_of(points)
    waves = waves_of(points, chosen, num_sms)
    # Where each row has a block of its own, an expert's weights are asked for once per row.
    asked = np.where(blocks_of_rows(points), np.maximum(rows, active), active)
    columns = [
        _LAUNCH_SECONDS * one,
        points.batch_size * hidden * 4 / bandwidth,
        rows * (2 * hidden + 3 * local) * 2 / bandwidth,
        np.sqrt(rows) * _SMALL_SECONDS,
        chain,
        np.sqrt(active) * chain / 8,
        waves.steps * _LOOP_STEP_SECONDS,
        waves.whole_steps * _LOOP_STEP_SECONDS,
        asked * read,
        asked * read * missed_fraction(active * caches_per_expert(points)),
        asked * read * (chosen.num_rows >= _TALL_ROWS),
        waves.tiles * read,
        asked * blocks,
        np.sqrt(rows * active) * 0.1 * read,
        *(tiles[height] * (height * row_compute + blocks) for height in _COMPUTE_TILES),
        rows * row_compute,
        *(np.ceil(fullest / height) * height * row_compute for height in _FULLEST_TILES),
        np.sqrt(fullest) * _SMALL_SECONDS,
        waves.tiles * chosen.num_rows * row_compute,
        waves.blocks / num_sms * _BLOCK_SECONDS,
    ]
    # Term by term in memory: what reads one term reads neighbours.
    return np.stack(np.broadcast_arrays(*columns)).T


def known_bandwidth(points: Points) -> NDArray[np.float64]:
    """Return bytes per second by each GPU's datasheet, or a stand-in, [num_points]."""
    found = datasheet_bytes_per_second(points)
    return np.where(np.isnan(found), _UNKNOWN_BYTES_PER_SECOND, found)


def known_peak(points: Points) -> NDArray[np.float64]:
    """Return FLOP per second by each GPU's datasheet, or a stand-in, [num_points]."""
    found = datasheet_flops_per_second(points)
    return np.where(np.isnan(found), _UNKNOWN_FLOPS_PER_SECOND, found)


def known_num_sms(points: Points) -> NDArray[np.float64]:
    """Return each GPU's streaming multiprocessors, or a stand-in, [num_points]."""
    known = set(gpu_names())
    return points.gpu.numbers(
        lambda name: (gpu(name).num_sms if name in known else None) or _UNKNOWN_NUM_SMS
    )


def _blocks(
    hidden: NDArray[np.float64], local: NDArray[np.float64], projections: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Thread blocks of one tile of rows: over the columns of gate and up, then of down."""
    first = np.ceil((projections - 1) * local / _BLOCK_ELEMENTS)
    return first + np.ceil(hidden / _BLOCK_ELEMENTS)
