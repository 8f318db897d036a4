"""Whether the columns and row groups of a Parquet file, told by its footer, are a trace's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.errors import TraceError
from moeprof.trace.schema import EXPERTS, LAYER, OPTIONAL, trace_fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.parquet as pq

    from moeprof.trace.metadata import TraceMetadata

_EXPERT_VALUES = f"{EXPERTS}.list.element"


def check_columns(path: Path, schema: pa.Schema, metadata: TraceMetadata) -> None:
    """Raise TraceError if a column is missing or of another type than a trace's."""
    for name, type_ in trace_fields(metadata).items():
        if name not in schema.names:
            if name in OPTIONAL:
                continue
            raise TraceError(f"{path}: must have a column {name}, has {', '.join(schema.names)}")
        found = schema.field(name).type
        if found != type_:
            raise TraceError(f"{path}: column {name} must be {type_}, found {found}")


def groups_by_layer(
    path: Path, footer: pq.FileMetaData, metadata: TraceMetadata
) -> Mapping[int, tuple[int, ...]]:
    """Return the numbers of the row groups of every layer, in layer order.

    Raises TraceError: a row group of several layers or of one that the metadata does not name,
    layers of unequal length, or an expert out of range.
    """
    groups: dict[int, list[int]] = {layer: [] for layer in metadata.layers}
    num_rows = dict.fromkeys(groups, 0)
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        layers = _range(group, LAYER)
        if layers is None or layers[0] != layers[1] or layers[0] not in groups:
            found = "of no known range" if layers is None else f"{layers[0]} to {layers[1]}"
            known = ", ".join(str(layer) for layer in metadata.layers)
            raise TraceError(
                f"{path}: row group {number} must be of one of the layers {known}, found {found}",
                hint="A trace that another tool has rewritten is no longer ordered by layer.",
            )
        experts = _range(group, _EXPERT_VALUES)
        if experts is None or experts[0] < 0 or experts[1] >= metadata.num_experts:
            found = "of no known range" if experts is None else f"{experts[0]} to {experts[1]}"
            raise TraceError(
                f"{path}: layer {layers[0]}: experts must lie in 0..{metadata.num_experts - 1}, "
                f"found {found}"
            )
        groups[layers[0]].append(number)
        num_rows[layers[0]] += group.num_rows
    if len(set(num_rows.values())) != 1 or not all(num_rows.values()):
        counts = ", ".join(f"{layer}: {count}" for layer, count in num_rows.items())
        raise TraceError(f"{path}: every layer must have the same tokens, found rows {counts}")
    return {layer: tuple(numbers) for layer, numbers in groups.items()}


def _range(group: pq.RowGroupMetaData, column: str) -> tuple[int, int] | None:
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.path_in_schema == column:
            statistics = chunk.statistics
            if statistics is None or not statistics.has_min_max:
                return None
            return int(statistics.min), int(statistics.max)
    return None
