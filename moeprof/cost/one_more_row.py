"""The distinct steps that one more row on any expert of any GPU can lead to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.workload.occupancy import TILE_ROWS, Occupancy

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEIGHTS: Final = np.array(TILE_ROWS, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Distinct steps, each of one GPU, in the GPUs' order.

    On a GPU, what one more row leads to depends only on how many rows its expert has. `gpu` is
    [num_steps], `occupancy` of as many points; `now`, [num_gpus], says which step is the present
    one, `next`, [num_gpus, num_experts], which one a row more on an expert leads to.
    """

    gpu: NDArray[np.int64]
    occupancy: Occupancy
    now: NDArray[np.int64]
    next: NDArray[np.int64]


def steps_of(rows_per_expert: NDArray[np.int64]) -> Steps:
    """Return the steps of rows as they are, and with one more; [num_gpus, num_experts]."""
    num_gpus = len(rows_per_expert)
    width = int(rows_per_expert.max(initial=0)) + 2
    places = np.arange(num_gpus) * width
    codes = rows_per_expert + 1 + places[:, None]
    occurs = np.zeros(num_gpus * width, dtype=bool)
    occurs[codes] = True
    occurs[places] = True  # the step as it is
    steps = np.flatnonzero(occurs)
    number = np.cumsum(occurs) - 1
    gpu, rows = steps // width, steps % width - 1  # -1: no row is added
    more = rows >= 0
    active = (rows_per_expert > 0).sum(axis=1)[gpu] + (rows == 0)
    fullest = np.maximum(rows_per_expert.max(axis=1, initial=0)[gpu], rows + 1)
    tiles = np.stack([(-(-rows_per_expert // each)).sum(axis=1) for each in TILE_ROWS], axis=1)
    begun = more[:, None] & (rows[:, None] % _HEIGHTS == 0)
    occupancy = Occupancy(
        num_active=active.astype(np.float64),
        num_rows=(rows_per_expert.sum(axis=1)[gpu] + more).astype(np.float64),
        max_rows=fullest.astype(np.float64),
        tiles=(tiles[gpu] + begun).astype(np.float64),
    )
    return Steps(gpu, occupancy, number[places], number[codes])
