"""The reading of a trace, layer by layer and only the columns asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moeprof.errors import TraceError
from moeprof.trace.metadata import from_footer
from moeprof.trace.row_groups import check_columns, groups_by_layer
from moeprof.trace.schema import EXPERTS, LAYER, LOGITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from moeprof.trace.metadata import TraceMetadata


@dataclass(frozen=True, slots=True, eq=False)
class LayerRows:
    """Tokens at one layer, in the order of the trace; None is a column not asked for.

    `experts` and `weights`, [num_tokens, top_k]; `logits`, [num_tokens, num_experts]; all others
    [num_tokens]. `request`, `position`, `token_id` and `step` are None, too, where the source does
    not tell them of every one of these tokens.
    """

    layer: int
    experts: NDArray[np.int16] | None = None
    weights: NDArray[np.float32] | None = None
    logits: NDArray[np.float16] | None = None
    request: NDArray[np.int32] | None = None
    position: NDArray[np.int32] | None = None
    token_id: NDArray[np.int32] | None = None
    step: NDArray[np.int32] | None = None
    is_dummy: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A routing trace on the disk, of which only the footer has been read."""

    path: Path
    metadata: TraceMetadata
    columns: tuple[str, ...]
    num_tokens: int
    """Tokens, each counted once for all layers."""
    groups: Mapping[int, tuple[int, ...]]
    """The row groups of each layer."""

    def read_layer(self, layer: int, columns: Sequence[str] = (EXPERTS,)) -> LayerRows:
        """Return all tokens at one layer.

        The same token has the same place in the arrays of every layer.

        Raises TraceError: no such layer or column, or the file is damaged.
        """
        return self._rows(layer, columns, self._groups_of(layer))

    def layer_batches(self, layer: int, columns: Sequence[str] = (EXPERTS,)) -> Iterator[LayerRows]:
        """Yield the tokens at one layer, some thousand at a time, in order.

        Raises TraceError: no such layer or column, or the file is damaged.
        """
        for group in self._groups_of(layer):
            yield self._rows(layer, columns, (group,))

    def _groups_of(self, layer: int) -> tuple[int, ...]:
        if layer not in self.groups:
            known = ", ".join(str(each) for each in self.groups)
            raise TraceError(f"{self.path}: has no MoE layer {layer}; it has {known}")
        return self.groups[layer]

    def _rows(self, layer: int, columns: Sequence[str], groups: Sequence[int]) -> LayerRows:
        for name in columns:
            if name not in self.columns or name == LAYER:
                known = ", ".join(each for each in self.columns if each != LAYER)
                hint = "It was recorded with --top-only, or imported." if name == LOGITS else None
                raise TraceError(f"{self.path}: has no column {name}; it has {known}", hint=hint)
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                table = file.read_row_groups(list(groups), columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            raise TraceError(f"{self.path}: layer {layer} cannot be read: {error}") from error
        return LayerRows(layer, **{name: _array(table[name]) for name in columns})


def open_trace(path: Path) -> Trace:
    """Return a trace, checked as far as its footer tells.

    Raises TraceError, which names the file, what was found and what would be right: no Parquet or
    a truncated one, no trace, a newer schema, a missing or mistyped column, lists of another length
    than `top_k` or `num_experts`, an expert that is not below `num_experts`, layers of unequal
    length.
    """
    if not path.is_file():
        raise TraceError(
            f"{path}: must be a trace's file, found {'a folder' if path.is_dir() else 'nothing'}"
        )
    try:
        with pq.ParquetFile(path) as file:
            footer, schema = file.metadata, file.schema_arrow
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise TraceError(
            f"{path}: must be a whole Parquet file, found: {error}",
            hint="Record or import it again; a trace that was copied halfway is cut off.",
        ) from error
    metadata = from_footer(footer.metadata, path, "routing")
    check_columns(path, schema, metadata)
    groups = groups_by_layer(path, footer, metadata)
    first = next(iter(groups.values()))
    num_tokens = sum(footer.row_group(group).num_rows for group in first)
    return Trace(path, metadata, tuple(schema.names), num_tokens, groups)


def _array(column: pa.ChunkedArray) -> NDArray[Any] | None:
    if column.null_count:
        return None
    if not pa.types.is_fixed_size_list(column.type):
        values: NDArray[Any] = column.to_numpy()
        return values
    size = column.type.list_size
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(parts).reshape(-1, size)
