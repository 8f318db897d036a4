"""What SGLang's recorder counted without telling tokens apart: rows per expert and step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from moeprof.errors import TraceError
from moeprof.trace.counts import ExpertCounts
from moeprof.trace.dummy import dummy_passes, pass_sign
from moeprof.trace.importers.sglang_tokens import (
    logical_of_slot,
    num_logical_experts,
    replication_note,
)
from moeprof.trace.importers.whole_numbers import as_int32, pass_number, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from moeprof.trace.metadata import TraceMetadata

_NUM_AXES = 3


def stat_counts(file: Path, found: Any, metadata: TraceMetadata) -> ExpertCounts:
    """Return the counts of a `stat` recording, [num_steps, num_layers, num_experts] or one sum.

    Raises TraceError: another shape, or a number that does not fit what was given.
    """
    rows = whole_numbers(f"{file}: logical_count", found)
    if rows.ndim == _NUM_AXES - 1:
        rows = rows[np.newaxis]
        metadata = replace(metadata, notes=("all steps were summed by the recorder",))
    if rows.ndim != _NUM_AXES:
        raise TraceError(
            f"{file}: logical_count must be [num_steps, num_layers, num_experts], found "
            f"{list(rows.shape)}"
        )
    if metadata.num_experts not in {0, rows.shape[2]}:
        raise TraceError(
            f"{file}: counts {rows.shape[2]} experts, --num-experts says {metadata.num_experts}"
        )
    described = replace(metadata, num_experts=rows.shape[2])
    return _counts(file, rows, np.arange(len(rows)), described)


def pass_counts(file: Path, content: Mapping[str, Any], metadata: TraceMetadata) -> ExpertCounts:
    """Return the counts of a `per_pass` recording, of slots turned into counts of experts.

    Raises TraceError: shapes that differ, or a number that does not fit what was given.
    """
    records = content["records"]
    tables = [
        whole_numbers(f"{file}: record {n}: global_physical_count", each["global_physical_count"])
        for n, each in enumerate(records)
    ]
    if len({each.shape for each in tables}) != 1 or tables[0].ndim != _NUM_AXES - 1:
        shapes = sorted({str(list(each.shape)) for each in tables})
        raise TraceError(
            f"{file}: every global_physical_count must be [num_layers, num_slots], found "
            f"{' and '.join(shapes)}"
        )
    rows = np.stack(tables)
    num_experts = num_logical_experts(file, content, metadata.num_experts or None)
    slots = logical_of_slot(file, content)
    if slots is None and num_experts != rows.shape[2]:
        raise TraceError(
            f"{file}: counts {rows.shape[2]} slots of {num_experts} experts, and has no map of them"
        )
    if slots is not None:
        if slots.shape != rows.shape[1:]:
            raise TraceError(
                f"{file}: its map of {list(slots.shape)} does not fit counts of "
                f"{list(rows.shape[1:])}"
            )
        rows = np.stack(
            [_by_expert(rows[:, each], slots[each], num_experts) for each in range(len(slots))],
            axis=1,
        )
        metadata = replace(metadata, notes=replication_note(slots))
    steps = np.array(
        [
            pass_number(f"{file}: record {n}: forward_pass_id", each.get("forward_pass_id", n))
            for n, each in enumerate(records)
        ]
    )
    return _counts(file, rows, steps, replace(metadata, num_experts=num_experts))


def _by_expert(rows: NDArray[Any], slots: NDArray[np.int64], num_experts: int) -> NDArray[np.int64]:
    """Return the rows, [num_steps, num_experts], of rows per slot, [num_steps, num_slots]."""
    summed = np.zeros((len(rows), num_experts), dtype=np.int64)
    np.add.at(summed.T, slots, rows.T)
    return summed


def _counts(
    file: Path, rows: NDArray[Any], steps: NDArray[Any], metadata: TraceMetadata
) -> ExpertCounts:
    layers = np.flatnonzero(rows.any(axis=(0, 2)))
    is_step = rows.any(axis=(1, 2))  # a ring buffer that was not filled has steps without rows
    rows, steps = rows[is_step][:, layers], steps[is_step]
    if (rows < 0).any():
        raise TraceError(f"{file}: counts must not be negative, found {rows.min()}")
    if not metadata.top_k:
        raise TraceError(
            f"{file}: counts do not tell how many experts a token uses",
            hint="Give --top-k.",
        )
    if (rows.sum(axis=2) % metadata.top_k).any():
        step, layer = np.argwhere(rows.sum(axis=2) % metadata.top_k)[0]
        raise TraceError(
            f"{file}: step {steps[step]}, layer {layers[layer]} has {rows[step, layer].sum()} "
            f"rows, which --top-k {metadata.top_k} does not divide"
        )
    signs = [pass_sign(each, metadata.top_k) for each in rows]
    return ExpertCounts(
        metadata=replace(metadata, kind="expert-counts", layers=tuple(layers.tolist())),
        rows=as_int32(f"{file}: the rows of an expert in a step", rows),
        step=steps,
        is_dummy=np.array(dummy_passes(signs, are_requests=False), dtype=np.bool_),
    )
