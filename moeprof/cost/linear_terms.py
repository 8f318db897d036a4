"""Terms of a cost as linear functions of features of the rows, found by asking the terms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.workload.occupancy import TILE_ROWS, Occupancy

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from moeprof.cost.points import Points

_NUM_PROBES: Final = 96
_MOST_ROWS: Final = 4096.0
_MOST_ACTIVE: Final = 256.0
_TOLERANCE: Final = 1e-8  # of a term's largest value at the probes
_HEIGHTS: Final = np.array(TILE_ROWS, dtype=np.float64)
_NUM_FEATURES: Final = 8 + 2 * len(TILE_ROWS)


@dataclass(frozen=True, slots=True, eq=False)
class RowFeatures:
    """Features of occupancies, [num_gpus, num_cases, num_features], and two of their counts.

    The features are 1, active experts A, rows R, rows of the fullest M, the roots of A, R, M and
    R * A, then for each of `TILE_ROWS` the sum of tiles and the tiles of the fullest.
    """

    values: NDArray[np.float64]
    num_active: NDArray[np.float64]
    num_rows: NDArray[np.float64]


def features_of(rows_per_expert: NDArray[np.int64]) -> RowFeatures:
    """Return the features of the rows as they are, and with one more on each expert.

    `rows_per_expert` is [num_gpus, num_experts]; case 0 is the rows as they are, case e + 1 those
    with one more row on expert e.
    """
    now = rows_per_expert.astype(np.float64)
    num_gpus, num_experts = now.shape
    shape = (num_gpus, num_experts + 1)
    active, rows, fullest = np.empty(shape), np.empty(shape), np.empty(shape)
    active[:, 0], rows[:, 0] = (now > 0).sum(axis=1), now.sum(axis=1)
    fullest[:, 0] = now.max(axis=1, initial=0.0)
    active[:, 1:] = active[:, :1] + (now == 0)
    rows[:, 1:] = rows[:, :1] + 1
    np.maximum(fullest[:, :1], now + 1, out=fullest[:, 1:])
    tiles = np.empty((*shape, len(TILE_ROWS)))
    for place, height in enumerate(TILE_ROWS):
        tiles[:, 0, place] = (-(-rows_per_expert // height)).sum(axis=1)
        tiles[:, 1:, place] = tiles[:, :1, place] + (rows_per_expert % height == 0)
    return RowFeatures(_values(active, rows, fullest, tiles), active, rows)


def linear_terms(
    points: Points, terms: Callable[[Points], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return [num_points, num_features, num_terms]: each point's terms as weights of features.

    The terms of each point are asked at many occupancies, and what they depend on is solved for.
    """
    draw = np.random.default_rng(0)
    active = np.rint(draw.uniform(1, _MOST_ACTIVE, _NUM_PROBES))
    rows = np.rint(active * np.exp2(draw.uniform(0, np.log2(_MOST_ROWS / 16), _NUM_PROBES)))
    fullest = np.rint(draw.uniform(rows / active, rows))
    tiles = active[:, None] + np.rint(
        draw.uniform(0, 1, (_NUM_PROBES, 1)) * rows[:, None] / _HEIGHTS
    )
    num_points = len(points)
    each = np.repeat(np.arange(num_points), _NUM_PROBES)
    again = np.tile(np.arange(_NUM_PROBES), num_points)
    asked = replace(
        points.take(each),
        occupancy=Occupancy(active[again], rows[again], fullest[again], tiles[again]),
    )
    asked_terms = terms(asked).reshape(num_points, _NUM_PROBES, -1)
    features = _values(active, rows, fullest, tiles)
    scale = np.abs(features).max(axis=0)
    wanted = asked_terms.transpose(1, 0, 2).reshape(_NUM_PROBES, -1)
    size = np.maximum(np.abs(wanted).max(axis=0), np.finfo(np.float64).tiny)
    weights, *_ = np.linalg.lstsq(features / scale, wanted / size, rcond=None)
    missed = np.abs(features / scale @ weights - wanted / size).max()
    assert missed <= _TOLERANCE, f"a term needs a feature that is not here: off by {missed:.1e}"
    weights = weights / scale[:, None] * size
    found = weights.reshape(_NUM_FEATURES, num_points, -1).transpose(1, 0, 2)
    return np.ascontiguousarray(found)


def _values(
    active: NDArray[np.float64],
    rows: NDArray[np.float64],
    fullest: NDArray[np.float64],
    tiles: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the features of counts of any shape, on a last axis of their own."""
    values = np.empty((*active.shape, _NUM_FEATURES))
    values[..., 0] = 1.0
    for place, counts in enumerate((active, rows, fullest), start=1):
        values[..., place] = counts
    for place, counts in enumerate((active, rows, fullest, rows * active), start=4):
        np.sqrt(counts, out=values[..., place])
    values[..., 8 : 8 + len(TILE_ROWS)] = tiles
    np.ceil(fullest[..., None] / _HEIGHTS, out=values[..., 8 + len(TILE_ROWS) :])
    return values
