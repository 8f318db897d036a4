"""The row counts of imported points: those that the source gives, else what its pattern implies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.errors import WorkloadError
from moeprof.workload.occupancy import Occupancy, expected_occupancy
from moeprof.workload.routing import check, parse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.dataset.importers.points import Points


def fill_row_counts(points: Points, sound: NDArray[np.bool_]) -> Occupancy:
    """Set the counts of active experts, of rows and of the fullest expert, and return them.

    Where the source says how many experts are active, that stands; the rows are then those it
    says, or the rank's share of the batch. Elsewhere they are expected from the routing pattern,
    and `rows_reconstructed` is true. The returned counts are not rounded; NaN is not known.
    """
    active = points.number("num_active_experts").copy()
    rows = points.number("num_rows").copy()
    most = points.number("max_rows_per_expert").copy()
    counted = sound & np.isfinite(active)
    share = points.number("batch_size") * points.number("top_k") / points.number("ep_size")
    derived = counted & ~np.isfinite(rows)
    rows = np.where(derived, share, rows)
    patterns = points.text("routing_pattern")
    wanted = sound & ~counted & np.array([each is not None for each in patterns], dtype=bool)
    wanted &= ~_impossible(points, wanted)
    index = np.flatnonzero(wanted)
    if len(index):
        experts, top_k, tokens, ranks = (
            points.number(name)[index].astype(np.int64)
            for name in ("num_experts", "top_k", "batch_size", "ep_size")
        )
        texts = [str(patterns[each]) for each in index.tolist()]
        found = expected_occupancy(texts, experts, top_k, tokens, ranks)
        active[index], rows[index], most[index] = found.num_active, found.num_rows, found.max_rows
    # A single rank has all rows, whatever the pattern.
    reconstructed = wanted | (derived & (points.number("ep_size") > 1))
    points.flags["rows_reconstructed"] = reconstructed
    for name, values in (
        ("num_active_experts", active),
        ("num_rows", rows),
        ("max_rows_per_expert", most),
    ):
        points.numbers[name] = np.rint(values)
    tiles = np.empty((points.num_points, 0))
    return Occupancy(active, rows, most, tiles)


def _impossible(points: Points, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Refuse the points whose pattern is unknown or cannot be for their layer; return which."""
    faulty = np.zeros(points.num_points, dtype=bool)
    patterns = points.text("routing_pattern")
    names = ("num_experts", "top_k", "batch_size", "ep_size")
    columns = [points.number(name).tolist() for name in names]
    seen: dict[tuple[object, ...], str | None] = {}
    refused: dict[str, list[int]] = {}
    for index in np.flatnonzero(wanted).tolist():
        experts, top_k, tokens, ranks = (int(column[index]) for column in columns)
        key = (patterns[index], experts, top_k, tokens, ranks)
        if key not in seen:
            seen[key] = _fault(str(patterns[index]), experts, top_k, tokens, ranks)
        if (reason := seen[key]) is not None:
            refused.setdefault(reason, []).append(index)
    for reason, indices in refused.items():
        these = np.zeros(points.num_points, dtype=bool)
        these[indices] = True
        points.refuse(these, reason)
        faulty |= these
    return faulty


def _fault(text: str, num_experts: int, top_k: int, num_tokens: int, ep_size: int) -> str | None:
    try:
        pattern = parse(text)
        check(pattern, num_experts=num_experts, top_k=top_k, num_tokens=num_tokens)
    except WorkloadError as error:
        return error.message
    if text.startswith(("power_law:", "packed_power_law:")) and num_experts % ep_size:
        return f"ep_size must divide num_experts ({num_experts}) under {text}, got {ep_size}"
    return None
