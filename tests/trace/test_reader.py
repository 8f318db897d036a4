"""Claims about what is refused when a trace is opened."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trace_examples import metadata, routed, write_example

from moeprof.errors import TraceError
from moeprof.trace.check import check_experts
from moeprof.trace.counts import ExpertCounts, open_counts, write_counts
from moeprof.trace.metadata import TRACE_KEY, VERSION_KEY, to_footer
from moeprof.trace.reader import open_trace
from moeprof.trace.writer import writing_trace
from moeprof.workload.placement import Placement, place

if TYPE_CHECKING:
    from pathlib import Path


def rewritten(path: Path, table: pa.Table, footer: dict[bytes, bytes] | None = None) -> Path:
    """Write a table with a trace's footer, a row group for each 50 rows."""
    described = table.replace_schema_metadata(footer or to_footer(metadata()))
    pq.write_table(described, path, row_group_size=50)
    return path


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    path.write_bytes(b"not a trace")

    with pytest.raises(TraceError, match="must be a whole Parquet file"):
        open_trace(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.parquet: must be a trace's file, found nothing"):
        open_trace(tmp_path / "none.parquet")
    with pytest.raises(TraceError, match="found a folder"):
        open_trace(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_trace_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])

    with pytest.raises(TraceError, match="must be a whole Parquet file"):
        open_trace(path)


def test_a_flipped_bit_in_a_column_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path)
    row_group = pq.ParquetFile(path).metadata.row_group(0)
    index = row_group.num_columns - 1
    place_of = row_group.column(index).data_page_offset + 60
    content = bytearray(path.read_bytes())
    content[place_of] ^= 1
    path.write_bytes(content)

    trace = open_trace(path)

    with pytest.raises(TraceError, match="layer 1 cannot be read"):
        trace.read_layer(1, ("logits",))
    assert trace.read_layer(3, ("logits",)).logits is not None


def test_another_parquet_file_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"layer": [1]}), path)

    with pytest.raises(TraceError, match="must be a trace, found a Parquet file without"):
        open_trace(path)


@pytest.mark.parametrize(
    ("version", "told"),
    [(b"2", "this moeprof reads up to 1"), (b"0", r"1\.\.1, found '0'"), (b"x", "found 'x'")],
)
def test_a_schema_that_is_not_known_is_refused(tmp_path: Path, version: bytes, told: str) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path)
    rewritten(path, pq.read_table(path), to_footer(metadata()) | {VERSION_KEY: version})

    with pytest.raises(TraceError, match=told):
        open_trace(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("top_k", "two"),
        ("top_k", 0),
        ("num_experts", 2**40),
        ("source", "mine"),
        ("layers", None),
        ("layers", []),
    ],
)
def test_damaged_metadata_is_named_by_key(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path)
    footer = to_footer(metadata())
    document = json.loads(footer[TRACE_KEY]) | {key: value}
    rewritten(path, pq.read_table(path), footer | {TRACE_KEY: json.dumps(document).encode()})

    with pytest.raises(TraceError, match=f"metadata {key}"):
        open_trace(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path)
    rewritten(path, pq.read_table(path).drop_columns(["experts"]))

    with pytest.raises(TraceError, match="must have a column experts, has request"):
        open_trace(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"top_k": 3}, r"column experts must be .*\[3\], found .*\[2\]"),
        ({"num_experts": 9}, r"column logits must be .*\[9\], found .*\[8\]"),
        ({"num_experts": 8, "layers": (1,)}, "row group 1 must be of one of the layers 1, found 3"),
        ({"layers": (1, 3, 4)}, "every layer must have the same tokens"),
    ],
)
def test_rows_that_do_not_fit_the_metadata_are_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path)
    rewritten(path, pq.read_table(path), to_footer(metadata(**changes)))

    with pytest.raises(TraceError, match=told):
        open_trace(path)


def test_a_column_of_another_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path)
    table = pq.read_table(path)
    position = table.schema.get_field_index("position")
    wide = table["position"].cast(pa.int64())
    rewritten(path, table.set_column(position, "position", wide))

    with pytest.raises(TraceError, match="column position must be int32, found int64"):
        open_trace(path)


def test_rows_that_another_tool_has_mixed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path)
    rewritten(path, pq.read_table(path).sort_by("position"))

    with pytest.raises(TraceError, match="row group 0 must be of one of the layers"):
        open_trace(path)


def test_an_expert_out_of_range_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    tokens = routed(50)
    tokens.experts[1, 7, 0] = 8
    with writing_trace(path, metadata(), weights=False, logits=False) as writer:
        writer.write(replace(tokens, weights=None, logits=None))

    with pytest.raises(TraceError, match=r"layer 3: experts must lie in 0\.\.7, found 0 to 8"):
        open_trace(path)


def test_what_was_not_recorded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    with writing_trace(path, metadata(), weights=False, logits=False) as writer:
        writer.write(replace(routed(50), weights=None, logits=None, request=None))

    trace = open_trace(path)

    assert trace.read_layer(1, ("request",)).request is None
    with pytest.raises(TraceError, match="has no column logits; it has request, position"):
        trace.read_layer(1, ("logits",))
    with pytest.raises(TraceError, match="has no MoE layer 2; it has 1, 3"):
        trace.read_layer(2)


def test_a_placement_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path)
    trace = open_trace(path)
    loads = np.arange(8) + 1.0
    check_experts(trace, place("contiguous", num_experts=8, num_ranks=4, seed=0))
    check_experts(
        trace, place("eplb", num_experts=8, num_ranks=4, seed=0, loads=loads, num_replicas=4)
    )

    with pytest.raises(TraceError, match="of tiny has 8 experts, the placement contiguous holds 6"):
        check_experts(trace, place("contiguous", num_experts=6, num_ranks=2, seed=0))
    with pytest.raises(TraceError, match="holds 9"):
        check_experts(trace, place("contiguous", num_experts=9, num_ranks=3, seed=0))
    with pytest.raises(TraceError, match="holds 8 with ids from 1 to 8"):
        check_experts(trace, Placement("own", (tuple(range(1, 9)),)))


def test_counts_are_read_back_and_are_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "counts.parquet"
    rows = np.random.default_rng(0).integers(9, size=(6, 2, 8), dtype=np.int32)
    is_dummy = np.array([True] + [False] * 5)
    steps = np.arange(6, dtype=np.int32) * 2
    write_counts(path, ExpertCounts(metadata(kind="expert-counts"), rows, steps, is_dummy))

    found = open_counts(path)

    assert (found.rows == rows).all()
    assert (found.step == steps).all()
    assert (found.is_dummy == is_dummy).all()
    with pytest.raises(TraceError, match="must hold the experts of each token, found rows per"):
        open_trace(path)


def test_a_trace_is_no_counts(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    write_example(path)

    with pytest.raises(TraceError, match="must hold rows per expert and step, found the experts"):
        open_counts(path)
