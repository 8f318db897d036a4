"""Which rows were measured together, at one held temperature, and when."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.analysis.held_blocks import block_codes
from moeprof.analysis.rows import moments, reals
from moeprof.cost.grouping import group_codes, group_medians
from moeprof.record import Status

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from moeprof.cost.points import Points

_COLUMNS: Final = (
    "run_id", "order_index", "hold_celsius", "die_celsius", "role", "recorded_at",
)  # fmt: skip
_GAP_CELSIUS: Final = 1.0  # between two held temperatures, where nothing else tells blocks apart
_WIDEST_CELSIUS: Final = 2.0
# Blocks of a run from which on its drift is taken to be straight, and to be bent.
_BLOCKS_PER_DRIFT_POWER: Final = (5, 8)


@dataclass(frozen=True, slots=True, eq=False)
class HeldRows:
    """Blocks and runs as codes from 0, [num_points] of int64, and moments in seconds.

    Rows of a block share its disturbance, those of a run its drift. `moment_seconds`, [num_points],
    is NaN where it is not known when a row was measured. `celsius`, [num_points], is the set point
    of a die that was held at it, else what was read. `settled`, [num_points], is false where the
    set point was not reached: readings may then be of other seconds than power is.
    """

    blocks: NDArray[np.int64]
    runs: NDArray[np.int64]
    moment_seconds: NDArray[np.float64]
    celsius: NDArray[np.float64]
    settled: NDArray[np.bool_]

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> HeldRows:
        """Return what is known of some rows, by their indices or by a mask [num_points]."""
        return HeldRows(*(getattr(self, field.name)[index] for field in fields(self)))


def held_rows_of_table(table: pa.Table) -> HeldRows | None:
    """Return the blocks of rows of `measurements`; None: the table does not tell them apart."""
    names = set(table.column_names)
    if not names.issuperset(_COLUMNS) or any(table[name].null_count for name in _COLUMNS[:2]):
        return None
    if table["recorded_at"].null_count:
        return None
    _, runs = np.unique(np.array(table["run_id"].to_pylist(), dtype=str), return_inverse=True)
    settled = np.ones(table.num_rows, dtype=bool)
    if "status" in table.column_names:
        statuses = table["status"].to_pylist()
        settled = np.array([each != Status.TEMPERATURE_NOT_REACHED for each in statuses], bool)
    # A hold lies about an edge of the rounded reading, so that readings are off by up to half a
    # degree, always alike; the set point is not.
    set_points = reals(table, "hold_celsius")
    held = settled & np.isfinite(set_points)
    celsius = np.where(held, set_points, reals(table, "die_celsius"))
    runs = runs.ravel().astype(np.int64)
    return HeldRows(block_codes(table), runs, moments(table), celsius, settled)


def guessed_held_rows(points: Points) -> HeldRows:
    """Return blocks guessed from gaps between die temperatures: the fewest that there can be."""
    celsius = points.die_celsius
    order = np.argsort(celsius)
    blocks = np.zeros(len(points), dtype=np.int64)
    code, start, before = 0, -np.inf, -np.inf
    for row in order[: np.isfinite(celsius).sum()].tolist():  # NaN comes last
        here = celsius[row]
        if here - before > _GAP_CELSIUS or here - start > _WIDEST_CELSIUS:
            code, start = code + 1, here
        blocks[row], before = code, here
    unknown = np.full(len(points), np.nan)
    runs = np.zeros(len(points), dtype=np.int64)
    return HeldRows(blocks, runs, unknown, celsius, np.ones(len(points), dtype=bool))


def split_blocks(blocks: NDArray[np.int64], celsius: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the blocks, from 0, [num_rows], rows far from their block's temperature set apart.

    Work that heats the die beyond its set point has a temperature of its own, which counts.
    """
    _, codes = np.unique(blocks, return_inverse=True)
    off = celsius - group_medians(codes.ravel(), celsius)[codes.ravel()]
    apart = np.rint(off / _WIDEST_CELSIUS).astype(np.int64)
    return group_codes([codes.ravel().astype(np.int64), apart])


def block_design(
    celsius: NDArray[np.float64], held: HeldRows, blocks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return each block's mean of `celsius`, and its moment in runs that have enough blocks.

    `celsius`, [num_rows], is over some reference; `blocks`, [num_rows], counts from 0 without a
    gap. The design is [num_blocks, 1 or more]. Readings are averaged over a block, because the
    errors of single ones would flatten a slope over them.
    """
    num_rows = np.bincount(blocks)
    columns = [np.bincount(blocks, celsius) / num_rows]
    if not np.isfinite(held.moment_seconds).all():
        return np.column_stack(columns)
    seconds = np.bincount(blocks, held.moment_seconds) / num_rows
    run_of_block = np.zeros(len(num_rows), dtype=np.int64)
    run_of_block[blocks] = held.runs
    for run in np.unique(run_of_block):
        ours = run_of_block == run
        elapsed = np.where(ours, seconds - seconds[ours].mean(), 0.0)
        elapsed /= max(float(np.ptp(elapsed)), 1.0)
        columns += [
            elapsed**power
            for power, fewest in enumerate(_BLOCKS_PER_DRIFT_POWER, start=1)
            if ours.sum() >= fewest
        ]
    return np.column_stack(columns)
