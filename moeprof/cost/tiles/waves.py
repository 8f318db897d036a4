"""How many blocks a tiled kernel runs, and in how many waves over the GPU's SMs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.tiles.chosen import shared_bytes_of
from moeprof.workload.dtypes import BYTES_PER_ELEMENT
from moeprof.workload.occupancy import TILE_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points
    from moeprof.cost.tiles.chosen import Tiles
    from moeprof.workload.occupancy import Occupancy

_MOST_WARPS: Final = 32  # of resident blocks: half of an SM's 64, as registers allow
_LEAST_OPERAND_BYTES: Final = 1.0  # four-bit weights are widened before they are multiplied


@dataclass(frozen=True, slots=True, eq=False)
class Waves:
    """What the tiles of a step come to, [num_points] each; 0 where the tile is not known.

    `tiles` of rows; thread `blocks` of both matrix products; `steps`, of a block's loop over its
    inner size, one after the other on the busiest SM, if the last wave counts by its share; and
    `whole_steps`, if it counts as a whole one.
    """

    tiles: NDArray[np.float64]
    blocks: NDArray[np.float64]
    steps: NDArray[np.float64]
    whole_steps: NDArray[np.float64]


def waves_of(points: Points, chosen: Tiles, num_sms: NDArray[np.float64]) -> Waves:
    """Return the blocks and waves of each point's step.

    Each product has a block for every tile of rows and of columns; as many blocks as shared memory
    and warps allow are resident on an SM at a time. Source: CUDA C++ Programming Guide, hardware
    multithreading.
    """
    tiles = tiles_taken(points.occupancy, chosen)
    per_tile = blocks_per_tile(points, chosen)
    blocks = tiles[:, None] * per_tile
    waves = tiles[:, None] * (per_tile / _slots(points, chosen, num_sms)[:, None])
    inner = np.stack([points.hidden_size, points.expert_size / points.tp_size], axis=1)
    loops = np.where(tiles > 0, 1.0, 0.0)[:, None] * inner / np.maximum(chosen.depth, 1)[:, None]
    return Waves(
        tiles=tiles,
        blocks=blocks.sum(axis=1),
        steps=(np.maximum(waves, 1) * loops).sum(axis=1),
        whole_steps=(np.ceil(waves) * loops).sum(axis=1),
    )


def tiles_taken(occupancy: Occupancy, chosen: Tiles) -> NDArray[np.float64]:
    """Return how many tiles of the chosen height the rows fill, [num_points]; 0: not known."""
    heights = np.clip(chosen.num_rows, TILE_ROWS[0], TILE_ROWS[-1])
    column = np.searchsorted(TILE_ROWS, heights)[:, None]
    taken = np.take_along_axis(occupancy.tiles, column, axis=1)[:, 0]
    return np.where(chosen.is_known, taken, 0.0)


def blocks_per_tile(points: Points, chosen: Tiles) -> NDArray[np.float64]:
    """Return the blocks that a tile of rows has in each of the two products, [num_points, 2]."""
    local = points.expert_size / points.tp_size
    outer = np.stack([(points.num_projections - 1) * local, points.hidden_size], axis=1)
    blocks: NDArray[np.float64] = np.ceil(outer / np.maximum(chosen.num_columns, 1)[:, None])
    return blocks


def waves_per_tile(
    points: Points, chosen: Tiles, num_sms: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the waves that a tile of rows adds to each of the two products, [num_points, 2]."""
    return blocks_per_tile(points, chosen) / _slots(points, chosen, num_sms)[:, None]


def _slots(points: Points, chosen: Tiles, num_sms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many blocks the GPU holds at a time, [num_points]."""
    operand = points.weight_dtype.numbers(BYTES_PER_ELEMENT.__getitem__)
    elements = chosen.num_stages * chosen.depth * (chosen.num_rows + chosen.num_columns)
    shared = np.maximum(elements * np.maximum(operand, _LEAST_OPERAND_BYTES), 1.0)
    by_memory = np.floor(points.gpu.numbers(shared_bytes_of) / shared)
    by_warps = np.floor(_MOST_WARPS / np.maximum(chosen.num_warps, 1))
    slots: NDArray[np.float64] = num_sms * np.clip(by_memory, 1.0, np.maximum(by_warps, 1.0))
    return slots
