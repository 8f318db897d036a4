"""What a trace says about itself beside its rows, kept as JSON in the Parquet file's metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

import moeprof
from moeprof.errors import TraceError

Source = Literal["recorded", "sglang", "vllm"]
Kind = Literal["routing", "expert-counts"]

SCHEMA_VERSION: Final = 1
NUM_EXPERTS_MAX: Final = 1 << 15  # their numbers are int16
VERSION_KEY: Final = b"schema_version"
TRACE_KEY: Final = b"moeprof_trace"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A text that was run, or a recording that was imported; its name without folders."""

    name: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class TraceMetadata:
    """What holds for all rows of a trace.

    `layers` are the indices of the MoE layers in the model. `gate_rules`, one for each of them as
    `gate.description.describe` writes them, are None where the source does not tell them.
    """

    kind: Kind
    source: Source
    num_experts: Annotated[int, Field(ge=1, le=NUM_EXPERTS_MAX)]
    top_k: Annotated[int, Field(ge=1, le=NUM_EXPERTS_MAX)]
    layers: Annotated[tuple[int, ...], Field(min_length=1)]
    files: tuple[SourceFile, ...]
    model: str | None = None
    family: str | None = None
    gate_rules: tuple[dict[str, Any], ...] | None = None
    notes: tuple[str, ...] = ()
    """What a reader must know: for people."""
    num_logits_at_limit: int = 0
    """Logits beyond what float16 holds, stored as its limit, 65504 or its negative."""
    num_tokens_left_out: int = 0
    """Tokens that a recording has no choice of: padding, and what it had not yet captured."""
    moeprof_version: str = moeprof.__version__


_ADAPTER: Final = TypeAdapter(TraceMetadata)


def to_footer(metadata: TraceMetadata) -> dict[bytes, bytes]:
    """Return the key-value metadata of a trace's Parquet file."""
    return {VERSION_KEY: str(SCHEMA_VERSION).encode(), TRACE_KEY: _ADAPTER.dump_json(metadata)}


def from_footer(footer: dict[bytes, bytes] | None, where: object, kind: Kind) -> TraceMetadata:
    """Return what a Parquet file's key-value metadata says; `where` is the file.

    Raises TraceError: no trace, a newer schema, of the other kind, or damaged.
    """
    found = footer or {}
    if TRACE_KEY not in found:
        raise TraceError(
            f"{where}: must be a trace, found a Parquet file without {TRACE_KEY.decode()}",
            hint="Traces are written by moeprof trace and moeprof import sglang or vllm.",
        )
    version = found.get(VERSION_KEY, b"").decode(errors="replace")
    if not version.isdecimal() or int(version) < 1:
        raise TraceError(
            f"{where}: must have a schema_version of 1..{SCHEMA_VERSION}, found {version!r}"
        )
    if int(version) > SCHEMA_VERSION:
        raise TraceError(
            f"{where}: has schema_version {version}, this moeprof reads up to {SCHEMA_VERSION}",
            hint="Update moeprof: the file was written by a newer one.",
        )
    try:
        metadata = _ADAPTER.validate_json(found[TRACE_KEY])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TraceError(f"{where}: metadata {place or 'of the trace'}: {first['msg']}") from error
    if metadata.kind != kind:
        raise TraceError(
            f"{where}: must hold {_HOLDS[kind]}, found {_HOLDS[metadata.kind]}",
            hint="Counts per step tell an expert's load, not which experts a token chose."
            if kind == "routing"
            else "Open it as a routing trace.",
        )
    return metadata


_HOLDS: Final[dict[Kind, str]] = {
    "routing": "the experts of each token",
    "expert-counts": "rows per expert and step",
}
