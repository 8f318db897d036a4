"""Rows whose power contradicts that of other batch sizes on the same curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.contradiction import Contradiction, contradiction, log_ratio
from moeprof.cost.grouping import (
    curve_columns,
    group_codes,
    group_medians,
    kernel_columns,
    neighbours,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points

# Neighbours: a clean table (B200, TensorRT-LLM 1.3.0rc15) has 1 % of its jumps above 20 %.
_JUMP: Final = float(np.log(1.3))
_STILL: Final = float(np.log(1.1))  # what latency may move for power's jump to be without cause
_NEAR: Final = 2.0  # batch sizes within this factor are neighbours

_FALL_OF_MEDIAN: Final = float(np.log(1.1))
_FALL_OF_ROW: Final = float(np.log(1.25))
_LEAST_CURVES: Final = 5  # a median over fewer says nothing of the group


def jumps_between_neighbours(
    points: Points, average_watts: NDArray[np.float64], latency_seconds: NDArray[np.float64]
) -> Contradiction:
    """Return rows whose power is far from that of the next batch size, where latency is not.

    Neighbours are next to each other on one curve and at most a factor of two apart. Power may
    differ by 30 % while latency differs by up to 10 %; both rows of a larger jump are listed.
    """
    both = np.isfinite(average_watts) & np.isfinite(latency_seconds) & (average_watts > 0)
    left, right = neighbours(group_codes(curve_columns(points)), points.batch_size, both)
    near = points.batch_size[right] <= _NEAR * points.batch_size[left]
    left, right = left[near], right[near]
    jump = np.abs(log_ratio(average_watts[right], average_watts[left]))
    step = np.abs(log_ratio(latency_seconds[right], latency_seconds[left]))
    odd = (jump > _JUMP) & (step < _STILL)
    rows = np.concatenate([left[odd], right[odd]])
    others = np.concatenate([right[odd], left[odd]])
    excess = np.concatenate([jump[odd], jump[odd]])
    # A row beside two jumps is listed once, with the larger.
    order = np.lexsort((-excess, rows))
    rows, first = np.unique(rows[order], return_index=True)
    kept = order[first]
    return Contradiction(
        rows,
        average_watts[rows],
        average_watts[others[kept]],
        excess[kept],
        np.full(len(rows), _JUMP),
        "W",
        "the neighbouring batch size draws",
    )


def falls_with_tokens(points: Points, average_watts: NDArray[np.float64]) -> Contradiction:
    """Return rows that draw more than larger batches do, where most curves have that fall too.

    More tokens are more work in each second until the GPU is full. A row is listed where the
    median power of its kernel, GPU and formats falls from its batch size to a larger one by over
    10 %, and the power of its own curve falls by over 25 %.
    """
    seen = np.isfinite(average_watts) & (average_watts > 0)
    index = np.flatnonzero(seen)
    tokens = points.batch_size[index]
    logs = np.log(average_watts[index])
    group = group_codes(kernel_columns(points), index)
    cell = group_codes([group, tokens])
    num_cells = int(cell.max(initial=-1)) + 1
    crowded = np.bincount(cell, minlength=num_cells) >= _LEAST_CURVES
    median = np.where(crowded, group_medians(cell, logs), np.nan)
    _, example = np.unique(cell, return_index=True)
    later = _least_later(group[example], tokens[example], median)
    fall_of_median = (median - later)[cell]
    least = _least_later(group_codes(curve_columns(points), index), tokens, logs)
    fall = logs - least
    return contradiction(
        (fall_of_median > _FALL_OF_MEDIAN) & (fall > _FALL_OF_ROW),
        (average_watts[index], np.exp(least), fall, np.full(len(index), _FALL_OF_ROW)),
        unit="W",
        against="a larger batch of its curve draws",
        index=index,
    )


def _least_later(
    group: NDArray[np.int64], tokens: NDArray[np.int64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the least value of the same group at more tokens; the own value where there is none.

    Values that are NaN neither count nor have a result.
    """
    num = len(values)
    if not num:
        return values
    order = np.lexsort((-tokens, group))  # by group, the largest batch first
    starts = np.concatenate([[True], np.diff(group[order]) != 0])
    # Groups are told apart by an offset larger than any difference, so that one pass does all.
    span = 1 + np.nanmax(values, initial=0.0) - np.nanmin(values, initial=0.0)
    number = np.cumsum(starts) - 1
    ordered = np.where(np.isnan(values[order]), np.inf, values[order])
    running = np.minimum.accumulate(ordered - number * span) + number * span
    before = np.concatenate([[np.inf], running[:-1]])
    before = np.where(starts, np.inf, before)
    least = np.empty(num)
    least[order] = np.where(np.isfinite(before), before, ordered)
    return np.where(np.isnan(values), np.nan, least)
