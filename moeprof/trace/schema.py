"""The columns of a trace: a row is one token at one MoE layer.

The rows of one row group are of one layer, tokens in the order in which they ran, so that one
layer is read without touching the others. The lists `weights` and `logits` are columns only of
traces that recorded them; every other column is always there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from moeprof.dataset.columns import NO_UNIT, SHARE, Column
from moeprof.dataset.schema import field

if TYPE_CHECKING:
    from moeprof.trace.metadata import TraceMetadata

REQUEST: Final = "request"
POSITION: Final = "position"
LAYER: Final = "layer"
TOKEN_ID: Final = "token_id"  # noqa: S105 - a token of a text
STEP: Final = "step"
EXPERTS: Final = "experts"
WEIGHTS: Final = "weights"
LOGITS: Final = "logits"
IS_DUMMY: Final = "is_dummy"
OPTIONAL: Final = frozenset({WEIGHTS, LOGITS})

FLOAT16_MAX: Final = 65504  # IEEE 754 binary16


def trace_schema(metadata: TraceMetadata, *, weights: bool, logits: bool) -> pa.Schema:
    """Return the Arrow schema of a trace that has the lists asked for; units are in its fields."""
    columns = [column for column in _columns(metadata) if column.name not in OPTIONAL]
    chosen = {WEIGHTS: weights, LOGITS: logits}
    columns += [column for column in _columns(metadata) if chosen.get(column.name)]
    return pa.schema([field(column) for column in columns])


def trace_fields(metadata: TraceMetadata) -> dict[str, pa.DataType]:
    """Return the type of every column that a trace may have."""
    return {column.name: column.type for column in _columns(metadata)}


def _columns(metadata: TraceMetadata) -> tuple[Column, ...]:
    top_k, num_experts = metadata.top_k, metadata.num_experts
    return (
        Column(
            REQUEST, pa.int32(), NO_UNIT, "number of the request; null: the source does not say"
        ),
        Column(POSITION, pa.int32(), NO_UNIT, "position in the request, from 0; null: not known"),
        Column(LAYER, pa.int16(), NO_UNIT, "index of the decoder layer", nullable=False),
        Column(TOKEN_ID, pa.int32(), NO_UNIT, "the token that was routed; null: not known"),
        Column(STEP, pa.int32(), NO_UNIT, "forward pass of the engine; null: not known"),
        Column(
            EXPERTS,
            pa.list_(pa.int16(), top_k),
            NO_UNIT,
            "experts that the model itself chose, in its order",
            nullable=False,
        ),
        Column(
            IS_DUMMY,
            pa.bool_(),
            NO_UNIT,
            "whether the token is of an engine's warm-up or profiling, not of a request",
            nullable=False,
        ),
        Column(
            WEIGHTS,
            pa.list_(pa.float32(), top_k),
            SHARE,
            "weight of each chosen expert, as the gate gives it",
            nullable=False,
        ),
        Column(
            LOGITS,
            pa.list_(pa.float16(), num_experts),
            SHARE,
            f"gate logits of all experts, held to ±{FLOAT16_MAX}",
            nullable=False,
        ),
    )
