"""Terms of a cost as linear functions of features of the rows, found by asking the terms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.bends import bends_of
from moeprof.workload.occupancy import TILE_ROWS, Occupancy

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from moeprof.cost.bends import Bends
    from moeprof.cost.points import Points

_NUM_PROBES: Final = 96
_PROBED_ACTIVE: Final = (0.05, 256.0)
_PROBED_ROWS_PER_ACTIVE: Final = (1.0, 256.0)
_TOLERANCE: Final = 1e-8  # of a term's largest value at the probes
_HEIGHTS: Final = np.array(TILE_ROWS, dtype=np.float64)
_LITTLE: Final = 0.05  # what `watt_contexts` adds to counts before it takes their logarithm
_LEAST: Final = 1e-9


def features(occupancy: Occupancy, bends: Bends) -> NDArray[np.float64]:
    """Return what terms are linear in, [num_points, num_features].

    That is 1, active experts A, rows R, rows of the fullest M, the roots of A, R, M and R * A, for
    each of `TILE_ROWS` the sum of tiles and the tiles of the fullest, and what lies beyond bends.
    """
    active, rows, fullest = occupancy.num_active, occupancy.num_rows, occupancy.max_rows
    counts = np.stack([active, rows, fullest, rows * active], axis=1)
    return np.concatenate(
        [
            np.ones((len(rows), 1)),
            counts[:, :3],
            np.sqrt(counts),
            occupancy.tiles,
            np.ceil(fullest[:, None] / _HEIGHTS),
            bends.features(occupancy),
        ],
        axis=1,
    )


def log_features(occupancy: Occupancy, _: Bends | None = None) -> NDArray[np.float64]:
    """Return what the numbers of `watt_contexts` are linear in, [num_points, num_features]."""
    counts = np.stack([occupancy.num_active, occupancy.num_rows, occupancy.max_rows], axis=1)
    positive = np.concatenate([counts, occupancy.tiles], axis=1)
    return np.concatenate(
        [
            np.ones((len(counts), 1)),
            np.log(np.maximum(positive, _LEAST)),
            np.log(counts + _LITTLE),
        ],
        axis=1,
    )


def linear_terms(
    points: Points,
    terms: Callable[[Points], NDArray[np.float64]],
    of: Callable[[Occupancy, Bends], NDArray[np.float64]] = features,
) -> NDArray[np.float64]:
    """Return [num_points, num_features, num_terms]: each point's terms as weights of features.

    The terms of each point are asked at many occupancies, and what they depend on is solved for.
    """
    probes = _probes()
    bends = bends_of(points)
    found = []
    for point in range(len(points)):
        alike = np.full(_NUM_PROBES, point)
        asked = replace(points.take(alike), occupancy=probes)
        found.append(_solved(of(probes, bends.take(alike)), terms(asked)))
    return np.stack(found)


def _solved(values: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights, [num_features, num_terms], with which values make what is wanted."""
    tiny = np.finfo(np.float64).tiny
    scale = np.maximum(np.abs(values).max(axis=0), tiny)
    size = np.maximum(np.abs(wanted).max(axis=0), tiny)
    weights, *_ = np.linalg.lstsq(values / scale, wanted / size, rcond=None)
    missed = np.abs(values / scale @ weights - wanted / size).max()
    assert missed <= _TOLERANCE, f"a term needs a feature that is not here: off by {missed:.1e}"
    solved: NDArray[np.float64] = weights / scale[:, None] * size
    return np.ascontiguousarray(solved)


def _probes() -> Occupancy:
    draw = np.random.default_rng(0)

    def log_uniform(low: float, high: float) -> NDArray[np.float64]:
        return np.exp(draw.uniform(np.log(low), np.log(high), _NUM_PROBES))

    active = log_uniform(*_PROBED_ACTIVE)
    rows = active * log_uniform(*_PROBED_ROWS_PER_ACTIVE)
    fullest = draw.uniform(rows / np.maximum(active, 1), rows)
    tiles = active[:, None] + draw.uniform(0, 1, (_NUM_PROBES, len(_HEIGHTS))) * rows[:, None]
    return Occupancy(active, rows, fullest, tiles)
