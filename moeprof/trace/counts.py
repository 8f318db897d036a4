"""Rows per expert, layer and step: what a recording tells that does not say who chose what.

Such a file is no routing trace: it tells an expert's load, and nothing of a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moeprof.dataset.columns import NO_UNIT, Column
from moeprof.dataset.schema import field
from moeprof.errors import TraceError
from moeprof.trace.metadata import from_footer, to_footer
from moeprof.trace.published import published

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from moeprof.trace.metadata import TraceMetadata


@dataclass(frozen=True, slots=True, eq=False)
class ExpertCounts:
    """What experts had to do in each step of an engine.

    `rows`, [num_steps, num_layers, num_experts], layers in the order of the metadata; `step`,
    [num_steps], the numbers of the forward passes; `is_dummy`, [num_steps].
    """

    metadata: TraceMetadata
    rows: NDArray[np.int32]
    step: NDArray[np.int32]
    is_dummy: NDArray[np.bool_]


def write_counts(path: Path, counts: ExpertCounts) -> None:
    """Write counts as a Parquet file, a row for each step and layer.

    Raises TraceError: there is no step, or the file cannot be written.
    """
    num_steps, num_layers, num_experts = counts.rows.shape
    if not num_steps:
        raise TraceError(f"{path}: counts must have a step with rows, there was none")
    schema = _schema(num_experts)
    layers = np.tile(np.array(counts.metadata.layers, dtype=np.int16), num_steps)
    rows = pa.array(np.ascontiguousarray(counts.rows, dtype=np.int32).ravel())
    arrays = [
        pa.array(np.repeat(counts.step.astype(np.int32), num_layers)),
        pa.array(layers),
        pa.FixedSizeListArray.from_arrays(rows, type=schema.field("rows").type),
        pa.array(np.repeat(counts.is_dummy, num_layers)),
    ]
    with published(path, schema) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        writer.add_key_value_metadata(to_footer(counts.metadata))


def open_counts(path: Path) -> ExpertCounts:
    """Return the counts of a file.

    Raises TraceError: it is missing, damaged, holds something else, or is of a newer schema.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = from_footer(file.metadata.metadata, path, "expert-counts")
            expected = _schema(metadata.num_experts)
            found = file.schema_arrow
            if found.names != expected.names or found.types != expected.types:
                raise TraceError(f"{path}: must have columns {expected.names}, has {found.names}")
            table = file.read().combine_chunks()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise TraceError(f"{path}: must be a whole Parquet file, found: {error}") from error
    num_layers = len(metadata.layers)
    layers = table["layer"].to_numpy()
    if len(layers) % num_layers or (layers.reshape(-1, num_layers) != metadata.layers).any():
        raise TraceError(f"{path}: every step must have the layers {metadata.layers} in order")
    rows = table["rows"].combine_chunks().flatten().to_numpy()
    return ExpertCounts(
        metadata=metadata,
        rows=rows.reshape(-1, num_layers, metadata.num_experts),
        step=table["step"].to_numpy()[::num_layers],
        is_dummy=table["is_dummy"].to_numpy()[::num_layers],
    )


def _schema(num_experts: int) -> pa.Schema:
    columns = (
        Column("step", pa.int32(), NO_UNIT, "forward pass of the engine", nullable=False),
        Column("layer", pa.int16(), NO_UNIT, "index of the decoder layer", nullable=False),
        Column("rows", pa.list_(pa.int32(), num_experts), "rows", "per expert", nullable=False),
        Column("is_dummy", pa.bool_(), NO_UNIT, "whether it is a warm-up pass", nullable=False),
    )
    return pa.schema([field(column) for column in columns])
