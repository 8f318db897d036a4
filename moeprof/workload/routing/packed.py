"""The power law's row counts as its collector mended them before April 2026: on the last experts.

Source: https://github.com/ai-dynamo/aiconfigurator, `collector/helper.py` before commit 13dadba3b
of 2026-04-19, function `_generate_power_law_distribution`. All experts stand in one order, the
emptiest first and the last of those that are equal before the others, whatever rank they are on:

- what the bound of one row per token leaves over fills the first to the bound, then the second;
- what rounding left over is dealt along the order, a row each, again and again;
- what rounding took too much is taken along the order, from the fullest where an expert has none.

So the rows of a small batch, which round to none, all end on the last experts: on one rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def packed_rows(
    wanted: NDArray[np.int64], num_tokens: NDArray[np.int64], num_rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return rows per expert, [num_cases, num_experts], that sum to `num_rows`, [num_cases, 1].

    `wanted`, [num_cases, num_experts], are the rounded shares; none may exceed `num_tokens`,
    [num_cases, 1].
    """
    rows = np.minimum(wanted, num_tokens)
    rows = _filled(rows, (wanted - rows).sum(axis=-1, keepdims=True), num_tokens)
    rows = _dealt(rows, num_rows - rows.sum(axis=-1, keepdims=True), num_tokens)
    return _taken(rows, rows.sum(axis=-1, keepdims=True) - num_rows)


def _emptiest_first(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.argsort(-rows, axis=-1, kind="stable")[:, ::-1]


def _in_order(
    rows: NDArray[np.int64], order: NDArray[np.int64], extra: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Add `extra`, which stands in the order, to rows, which do not."""
    added = np.zeros_like(rows)
    np.put_along_axis(added, order, extra, axis=-1)
    return rows + added


def _filled(
    rows: NDArray[np.int64], num_extra: NDArray[np.int64], bound: NDArray[np.int64]
) -> NDArray[np.int64]:
    order = _emptiest_first(rows)
    room = bound - np.take_along_axis(rows, order, axis=-1)
    before = np.cumsum(room, axis=-1) - room
    return _in_order(rows, order, np.clip(num_extra - before, 0, room))


def _dealt(
    rows: NDArray[np.int64], num_missing: NDArray[np.int64], bound: NDArray[np.int64]
) -> NDArray[np.int64]:
    order = _emptiest_first(rows)
    left = np.maximum(num_missing, 0)
    while left.any():
        has_room = np.take_along_axis(rows, order, axis=-1) < bound
        given = has_room & (np.cumsum(has_room, axis=-1) <= left)
        if not given.any():
            break
        rows = _in_order(rows, order, given.astype(np.int64))
        left = left - given.sum(axis=-1, keepdims=True)
    return rows


def _taken(rows: NDArray[np.int64], num_excess: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = rows.copy()
    order = _emptiest_first(rows)
    left = np.maximum(num_excess, 0)
    num_experts = rows.shape[-1]
    while left.any():
        asked = np.arange(num_experts) < left
        empty = asked & (np.take_along_axis(rows, order, axis=-1) == 0)
        # The empty come first in the order, so the fullest pay before the others give.
        for case, short in enumerate(empty.sum(axis=-1).tolist()):
            for _ in range(short):
                rows[case, rows[case].argmax()] -= 1
        rows = _in_order(rows, order, -(asked & ~empty).astype(np.int64))
        left = left - asked.sum(axis=-1, keepdims=True)
    return rows
