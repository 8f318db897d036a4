"""The writing of a trace in bounded memory: a row group for each layer of some thousand tokens."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from moeprof.errors import TraceError
from moeprof.trace.metadata import to_footer
from moeprof.trace.published import published
from moeprof.trace.schema import EXPERTS, IS_DUMMY, LAYER, LOGITS, WEIGHTS, trace_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow.parquet as pq

    from moeprof.trace.metadata import TraceMetadata
    from moeprof.trace.tokens import RoutedTokens

_BUFFER_BYTES: Final = 64 << 20
_TOKENS_MAX: Final = 8192  # per row group: larger ones compress no better
_ROW_BYTES: Final = 24  # of a row's columns that are no lists, roughly


class TraceWriter:
    """Takes tokens as they come, and writes them layer by layer.

    It keeps at most about 64 MiB, and the tokens of one call, in memory.
    """

    def __init__(
        self, writer: pq.ParquetWriter, schema: pa.Schema, metadata: TraceMetadata
    ) -> None:
        self.num_tokens = 0
        self.num_logits_at_limit = 0
        self.num_tokens_left_out = 0
        self._writer = writer
        self._schema = schema
        self._metadata = metadata
        self._waiting: list[RoutedTokens] = []
        self._num_waiting = 0
        row = _ROW_BYTES + 2 * metadata.top_k
        row += 4 * metadata.top_k if WEIGHTS in schema.names else 0
        row += 2 * metadata.num_experts if LOGITS in schema.names else 0
        self._num_tokens_kept = min(
            _TOKENS_MAX, max(1, _BUFFER_BYTES // (row * len(metadata.layers)))
        )

    def write(self, tokens: RoutedTokens) -> None:
        """Add tokens to the trace; the lists must be those that the trace was opened for."""
        layers = len(self._metadata.layers)
        assert tokens.experts.shape == (layers, tokens.num_tokens, self._metadata.top_k)
        assert (tokens.weights is not None) == (WEIGHTS in self._schema.names)
        assert (tokens.logits is not None) == (LOGITS in self._schema.names)
        self._waiting.append(tokens)
        self._num_waiting += tokens.num_tokens
        self.num_tokens += tokens.num_tokens
        if self._num_waiting >= self._num_tokens_kept:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if not self._num_waiting:
            return
        shared = {
            name: _joined(self._waiting, name, self._schema.field(name).type)
            for name in self._schema.names
            if name not in {LAYER, EXPERTS, WEIGHTS, LOGITS, IS_DUMMY}
        }
        shared[IS_DUMMY] = pa.array(np.concatenate([_dummies(each) for each in self._waiting]))
        for index, layer in enumerate(self._metadata.layers):
            arrays = shared | {LAYER: pa.array(np.full(self._num_waiting, layer, dtype=np.int16))}
            for name in (EXPERTS, WEIGHTS, LOGITS):
                if name in self._schema.names:
                    lists = np.concatenate([getattr(each, name)[index] for each in self._waiting])
                    arrays[name] = _lists(lists, self._schema.field(name).type)
            columns = [arrays[name] for name in self._schema.names]
            self._writer.write_table(
                pa.Table.from_arrays(columns, schema=self._schema),
                row_group_size=self._num_waiting,
            )
        self._waiting.clear()
        self._num_waiting = 0

    def finished(self) -> TraceMetadata:
        """Return the metadata with what was counted while writing."""
        return replace(
            self._metadata,
            num_logits_at_limit=self.num_logits_at_limit,
            num_tokens_left_out=self.num_tokens_left_out,
        )


@contextmanager
def writing_trace(
    path: Path, metadata: TraceMetadata, *, weights: bool, logits: bool
) -> Iterator[TraceWriter]:
    """Give a writer of a trace that appears at `path` when the block ends, and not if it raises.

    Raises TraceError: the file cannot be written, or no token was.
    """
    schema = trace_schema(metadata, weights=weights, logits=logits)
    with published(path, schema) as parquet:
        writer = TraceWriter(parquet, schema, metadata)
        yield writer
        writer.flush()
        if not writer.num_tokens:
            raise TraceError(
                f"{path}: a trace must have a token, there was none",
                hint="Nothing was written; check that the source holds routed tokens.",
            )
        parquet.add_key_value_metadata(to_footer(writer.finished()))


def _joined(waiting: list[RoutedTokens], name: str, type_: pa.DataType) -> pa.Array:
    parts: list[Any] = []
    for tokens in waiting:
        values = getattr(tokens, name)
        part = pa.nulls(tokens.num_tokens, type_) if values is None else pa.array(values, type_)
        parts.append(part)
    return pa.concat_arrays(parts)


def _dummies(tokens: RoutedTokens) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if tokens.is_dummy is None:
        return np.zeros(tokens.num_tokens, dtype=np.bool_)
    return tokens.is_dummy


def _lists(rows: np.ndarray[Any, np.dtype[Any]], type_: pa.DataType) -> pa.Array:
    values = pa.array(np.ascontiguousarray(rows).ravel(), type_.value_type)
    return pa.FixedSizeListArray.from_arrays(values, type=type_)
