"""What decides the cost of a rank's rows: active experts, rows, the fullest expert, tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Kernels give an expert whole tiles of rows; these are the tile heights that are in use.
TILE_ROWS: Final = (8, 16, 32, 64, 128, 256)

_SLACK: Final = 1e-9  # a mean of 3 + 1e-16 rows is 3 rows


@dataclass(frozen=True, slots=True)
class Occupancy:
    """One rank's experts at each of `num_points` points, as counts or as expected counts.

    `num_active`, `num_rows` and `max_rows` are [num_points] of float64: local experts with a row,
    rows of all of them, rows of the fullest. `tiles`, [num_points, len(TILE_ROWS)], is the sum
    over the experts of their rows divided by each of `TILE_ROWS`, rounded up.
    """

    num_active: NDArray[np.float64]
    num_rows: NDArray[np.float64]
    max_rows: NDArray[np.float64]
    tiles: NDArray[np.float64]


def occupancy_of_rows(offsets: ArrayLike, rows: ArrayLike) -> Occupancy:
    """Return the exact occupancy of counted rows.

    `rows`, [num_counts], holds the counts of all points one after the other, and point i's are
    `rows[offsets[i]:offsets[i + 1]]`, as in an Arrow list array; `offsets` is [num_points + 1].

    Raises:
        WorkloadError: the offsets fall or reach beyond the rows, or a count is negative.

    """
    borders = np.asarray(offsets, dtype=np.int64)
    counts = np.asarray(rows, dtype=np.int64)
    if len(borders) == 0 or borders[0] < 0 or borders[-1] > len(counts) or _falls(borders):
        raise WorkloadError(f"offsets must rise within 0..{len(counts)} (the counts of rows)")
    if (counts < 0).any():
        raise WorkloadError(f"rows per expert must be at least 0, got {counts.min()}")
    totals = [
        (counts > 0).astype(np.int64),
        counts,
        *(-(-counts // height) for height in TILE_ROWS),
    ]
    sums = [_sum_between(borders, values).astype(np.float64) for values in totals]
    return Occupancy(
        num_active=sums[0],
        num_rows=sums[1],
        max_rows=_max_between(borders, counts).astype(np.float64),
        tiles=np.stack(sums[2:], axis=-1),
    )


def spread_occupancy(
    num_active: ArrayLike, num_rows: ArrayLike, max_rows: ArrayLike | None = None
) -> Occupancy:
    """Return the occupancy of points of which only counts are known, all [num_points].

    The rows are spread over the active experts as evenly as whole rows can be. With `max_rows`,
    one expert has that many (or as many as an even spread makes necessary), the others the rest.
    Counts may be expectations, which are not whole.

    Raises:
        WorkloadError: a count is negative or not finite, or there are rows and no active expert.

    """
    active, rows = np.broadcast_arrays(
        np.asarray(num_active, dtype=np.float64), np.asarray(num_rows, dtype=np.float64)
    )
    for name, values in (("num_active", active), ("num_rows", rows)):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise WorkloadError(f"{name} must be finite and at least 0")
    if ((rows > 0) & (active <= 0)).any():
        raise WorkloadError("num_active must be above 0 where there are rows")
    mean = np.divide(rows, active, out=np.zeros_like(rows), where=active > 0)
    if max_rows is None:
        return Occupancy(
            active.copy(), rows.copy(), np.ceil(mean - _SLACK), _even_tiles(active, rows)
        )
    most = np.minimum(np.maximum(np.asarray(max_rows, dtype=np.float64), mean), rows)
    alone = np.minimum(active, 1.0)
    tiles = _even_tiles(alone, alone * most)
    tiles += _even_tiles(active - alone, np.maximum(rows - alone * most, 0.0))
    return Occupancy(active.copy(), rows.copy(), most, tiles)


def _even_tiles(active: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the tiles of rows spread evenly over experts, [num_points, len(TILE_ROWS)]."""
    mean = np.divide(rows, active, out=np.zeros_like(rows), where=active > 0)[..., np.newaxis]
    whole = np.floor(mean + _SLACK)
    with_one_more = np.maximum(mean - whole, 0.0)
    heights = np.array(TILE_ROWS, dtype=np.float64)
    per_expert = (1 - with_one_more) * np.ceil(whole / heights)
    per_expert += with_one_more * np.ceil((whole + 1) / heights)
    # An active expert has at least one tile, also where an expectation gives it less than a row.
    tiles: NDArray[np.float64] = active[..., np.newaxis] * np.maximum(per_expert, np.sign(mean))
    return tiles


def _falls(borders: NDArray[np.int64]) -> bool:
    return bool((np.diff(borders) < 0).any())


def _sum_between(borders: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    sums = np.concatenate([[0], np.cumsum(values)])
    between: NDArray[np.int64] = sums[borders[1:]] - sums[borders[:-1]]
    return between


def _max_between(borders: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    # reduceat returns the next value, not nothing, where a point has no expert; a 0 at the end
    # gives the last border something to point at.
    padded = np.append(values, 0)
    highest = np.maximum.reduceat(padded, borders)[:-1] if len(borders) > 1 else padded[:0]
    return np.where(np.diff(borders) > 0, highest, 0)
