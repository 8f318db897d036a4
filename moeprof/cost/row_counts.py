"""How the rows of each point of a table fall on experts, from the best that the table tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from moeprof.cost.columns import first_row, reals
from moeprof.errors import DatasetError, WorkloadError
from moeprof.workload.occupancy import (
    TILE_ROWS,
    Occupancy,
    expected_occupancy,
    occupancy_of_rows,
    spread_occupancy,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Sizes = Mapping[str, NDArray[np.int64]]

_PATTERN_SIZES = ("num_experts", "top_k", "batch_size", "ep_size")


def occupancy_of_table(table: pa.Table, sizes: Sizes) -> Occupancy:
    """Return the occupancy of each row; `sizes` has num_experts, top_k, batch_size and ep_size.

    Exact where the row has `rows_per_expert`. Else, where its counts are reconstructed or absent,
    the expectation of its `routing_pattern` (for rank 0, and without the rounding of the counts).
    Else its counts `num_active_experts`, `num_rows` and `max_rows_per_expert`, evenly spread;
    `num_rows` is the rank's share of the batch where it is absent.

    Raises:
        DatasetError: a row has none of these, or impossible ones.

    """
    num = table.num_rows
    exact = _present(table, "rows_per_expert")
    active = reals(table, "num_active_experts")
    named = _present(table, "routing_pattern")
    expected = ~exact & named & (np.isnan(active) | _true(table, "rows_reconstructed"))
    counted = ~exact & ~expected
    right = "must have rows_per_expert, a routing_pattern or num_active_experts"
    first_row(counted & np.isnan(active), right, ["none"] * num)
    figures = np.empty((num, 3 + len(TILE_ROWS)))
    figures[exact] = _exact(table, np.flatnonzero(exact), sizes)
    figures[expected] = _expected(table, np.flatnonzero(expected), sizes)
    figures[counted] = _counted(table, np.flatnonzero(counted), sizes)
    return Occupancy(figures[:, 0], figures[:, 1], figures[:, 2], figures[:, 3:])


def _exact(table: pa.Table, index: NDArray[np.int64], sizes: Sizes) -> NDArray[np.float64]:
    if not len(index):
        return np.empty((0, 3 + len(TILE_ROWS)))
    lists = table["rows_per_expert"].take(pa.array(index)).combine_chunks()
    lengths = np.asarray(lists.value_lengths().to_numpy(zero_copy_only=False), dtype=np.int64)
    rows = np.asarray(lists.flatten().to_numpy(zero_copy_only=False))
    owner = np.repeat(index, lengths)
    wrong = ~(rows >= 0)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise DatasetError(
            f"row {owner[place]}: rows_per_expert must be at least 0 each, got {rows[place]}",
            hint="Give one count per expert slot of the rank.",
        )
    found = _figures(occupancy_of_rows(np.concatenate([[0], np.cumsum(lengths)]), rows))
    most = sizes["batch_size"][index] * sizes["top_k"][index]
    faulty = found[:, 1] > most
    if faulty.any():
        place = int(np.argmax(faulty))
        raise DatasetError(
            f"row {index[place]}: rows_per_expert must add up to at most batch_size x top_k "
            f"({most[place]}), got {found[place, 1]:.0f}",
            hint="rows_per_expert are of the row's own batch.",
        )
    return found


def _expected(table: pa.Table, index: NDArray[np.int64], sizes: Sizes) -> NDArray[np.float64]:
    if not len(index):
        return np.empty((0, 3 + len(TILE_ROWS)))
    patterns = table["routing_pattern"].take(pa.array(index)).to_pylist()
    columns = [sizes[name][index] for name in _PATTERN_SIZES]
    try:
        return _figures(expected_occupancy(patterns, *columns))
    except WorkloadError as error:
        row = index[_first_impossible(patterns, columns)]
        raise DatasetError(f"row {row}: {error.message}", hint=error.hint) from error


def _first_impossible(patterns: Sequence[str], columns: Sequence[NDArray[np.int64]]) -> int:
    """Return the place of one row whose pattern cannot be; there is one."""
    low, high = 0, len(patterns)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            expected_occupancy(patterns[low:middle], *(each[low:middle] for each in columns))
        except WorkloadError:
            high = middle
        else:
            low = middle
    return low


def _counted(table: pa.Table, index: NDArray[np.int64], sizes: Sizes) -> NDArray[np.float64]:
    active = reals(table, "num_active_experts")[index]
    rows = reals(table, "num_rows")[index]
    share = sizes["batch_size"] * sizes["top_k"] / sizes["ep_size"]
    rows = np.where(np.isnan(rows), share[index], rows)
    for name, values in (("num_active_experts", active), ("num_rows", rows)):
        _refuse(index, ~((values >= 0) & np.isfinite(values)), f"{name} must be >= 0", values)
    experts = sizes["num_experts"][index]
    _refuse(index, active > experts, "num_active_experts must be at most num_experts", active)
    right = "num_active_experts must be above 0 where there are rows"
    _refuse(index, (rows > 0) & (active == 0), right, active)
    most = reals(table, "max_rows_per_expert")[index]
    told = np.isfinite(most)
    found = _figures(spread_occupancy(active, rows))
    found[told] = _figures(spread_occupancy(active[told], rows[told], most[told]))
    return found


def _refuse(
    index: NDArray[np.int64], faulty: NDArray[np.bool_], right: str, found: NDArray[np.float64]
) -> None:
    if faulty.any():
        place = int(np.argmax(faulty))
        raise DatasetError(f"row {index[place]}: {right}, got {found[place]:g}")


def _figures(found: Occupancy) -> NDArray[np.float64]:
    """Return an occupancy as one array, [num_points, 3 + len(TILE_ROWS)]."""
    return np.column_stack([found.num_active, found.num_rows, found.max_rows, found.tiles])


def _present(table: pa.Table, name: str) -> NDArray[np.bool_]:
    if name not in table.column_names:
        return np.zeros(table.num_rows, dtype=bool)
    return np.asarray(table[name].is_valid().to_numpy(), dtype=bool)


def _true(table: pa.Table, name: str) -> NDArray[np.bool_]:
    if name not in table.column_names:
        return np.zeros(table.num_rows, dtype=bool)
    filled = table[name].cast(pa.bool_()).fill_null(False)
    return np.asarray(filled.to_numpy(), dtype=bool)
