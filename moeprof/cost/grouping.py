"""Rows that agree in several columns, as groups with a number each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.cost.points import Points

_MOST_SPAN: Final = 2**22


def group_codes(
    columns: Sequence[NDArray[np.int64]], index: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return the number of each row's group, from 0, by the columns [num_rows].

    With `index`, only of the rows there, in its order.
    """
    taken = columns if index is None else [each[index] for each in columns]
    code = np.zeros(len(taken[0]), dtype=np.int64)
    # Column by column: sorting whole rows of a million points takes many times as long.
    for column in taken:
        place, num_values = ranks(column)
        if num_values > 1:
            code, _ = ranks(code * num_values + place)
    return code


def ranks(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return each value's place among the distinct ones, [num_values], and how many those are."""
    if not len(values):
        return np.zeros(0, dtype=np.int64), 0
    least, most = int(values.min()), int(values.max())
    # Sizes, tokens and codes span little: marking those that occur is far quicker than sorting.
    if most - least > _MOST_SPAN:
        found, place = np.unique(values, return_inverse=True)
        return place.ravel(), len(found)
    above = values - least
    occurs = np.zeros(most - least + 1, dtype=bool)
    occurs[above] = True
    number = np.cumsum(occurs) - 1
    return number[above], int(number[-1]) + 1


def first_places(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each group, numbered from 0, first occurs, [num_groups]."""
    first = np.full(int(codes.max(initial=-1)) + 1, len(codes), dtype=np.int64)
    np.minimum.at(first, codes, np.arange(len(codes)))
    return first


def group_medians(codes: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of the values of each group, [num_groups]; every group has one or more."""
    order = np.lexsort((values, codes))
    ordered = values[order]
    borders = np.searchsorted(codes[order], np.arange(int(codes.max(initial=-1)) + 2))
    low = (borders[:-1] + borders[1:] - 1) // 2
    high = (borders[:-1] + borders[1:]) // 2
    found: NDArray[np.float64] = (ordered[low] + ordered[high]) / 2
    return found


def neighbours(
    codes: NDArray[np.int64], tokens: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of wanted rows that are next to each other in tokens within their group.

    The first of a pair has fewer tokens; rows of equal batch size are no pair.
    """
    index = np.flatnonzero(wanted)
    order = index[np.lexsort((tokens[index], codes[index]))]
    left, right = order[:-1], order[1:]
    pair = (codes[left] == codes[right]) & (tokens[left] < tokens[right])
    return left[pair], right[pair]


def kernel_columns(points: Points) -> list[NDArray[np.int64]]:
    """Return what says by which kernel, on which GPU, in which formats, [num_points] each."""
    labels = (points.kernel, points.engine, points.gpu, points.weight_dtype)
    return [each.codes.astype(np.int64) for each in (*labels, points.activation_dtype)]


def curve_columns(points: Points) -> list[NDArray[np.int64]]:
    """Return all that points of one curve over batch size have in common, [num_points] each."""
    sizes = (points.hidden_size, points.expert_size, points.num_experts, points.top_k)
    ranks = (points.ep_size, points.tp_size, points.num_projections)
    return [*kernel_columns(points), points.routing_pattern.codes.astype(np.int64), *sizes, *ranks]


def work_columns(points: Points) -> list[NDArray[np.int64]]:
    """Return all that points of identical work have in common, [num_points] each.

    That is all but the name of the routing pattern: occupancy counts, to a thousandth.
    """
    sizes = (points.hidden_size, points.num_experts, points.top_k, points.ep_size)
    rest = (points.num_projections, points.batch_size, points.expert_size // points.tp_size)
    occupancy = points.occupancy
    figures = np.column_stack([occupancy.num_active, occupancy.num_rows, occupancy.max_rows])
    counts = np.rint(np.column_stack([figures, occupancy.tiles]) * 1000).astype(np.int64)
    return [*kernel_columns(points), *sizes, *rest, *counts.T]
