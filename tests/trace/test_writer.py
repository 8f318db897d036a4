"""Claims about the writing of traces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from trace_examples import LAYERS, metadata, routed, write_example

from moeprof.errors import TraceError
from moeprof.trace.reader import open_trace
from moeprof.trace.schema import trace_schema
from moeprof.trace.writer import writing_trace

LARGE = Path(__file__).with_name("write_large.py")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    tokens = write_example(path)

    trace = open_trace(path)
    columns = ("experts", "weights", "logits", "request", "position", "token_id", "is_dummy")

    assert trace.num_tokens == 50
    assert trace.metadata == metadata()
    for index, layer in enumerate(LAYERS):
        rows = trace.read_layer(layer, columns)
        assert (rows.experts == tokens.experts[index]).all()
        assert (rows.weights == tokens.weights[index]).all()
        assert (rows.logits == tokens.logits[index]).all()
        assert rows.logits.dtype == np.float16
        assert (rows.request == tokens.request).all()
        assert (rows.position == tokens.position).all()
        assert (rows.token_id == tokens.token_id).all()
        assert not rows.is_dummy.any()


def test_tokens_written_in_parts_keep_their_order(tmp_path: Path) -> None:
    whole = routed(30_000)
    path = tmp_path / "trace.parquet"
    with writing_trace(path, metadata(), weights=False, logits=False) as writer:
        for first in range(0, 30_000, 700):
            part = slice(first, first + 700)
            writer.write(type(whole)(whole.experts[:, part], request=whole.request[part]))

    trace = open_trace(path)

    assert len(trace.groups[LAYERS[0]]) > 2
    assert (trace.read_layer(LAYERS[1]).experts == whole.experts[1]).all()
    batches = list(trace.layer_batches(LAYERS[0], ("request",)))
    assert len(batches) == len(trace.groups[LAYERS[0]])
    assert (np.concatenate([each.request for each in batches]) == whole.request).all()


def test_a_trace_opens_in_one_line_of_other_tools(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    tokens = write_example(path)
    first = [float(each) for each in tokens.logits[0, 0]]

    assert len(pd.read_parquet(path)) == len(pq.read_table(path)) == 100
    found = duckdb.read_parquet(str(path)).project("logits, experts").fetchall()[0]
    assert list(found[0]) == first
    assert list(found[1]) == tokens.experts[0, 0].tolist()
    assert pd.read_parquet(path)["logits"][0].tolist() == first


def test_every_column_says_what_it_is() -> None:
    for field in trace_schema(metadata(), weights=True, logits=True):
        assert field.metadata[b"description"], field.name
        assert field.metadata[b"unit"], field.name


def _write_and_break(path: Path) -> None:
    with writing_trace(path, metadata(), weights=True, logits=True) as writer:
        writer.write(routed(20_000))
        raise RuntimeError("the model broke")


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    path.write_bytes(b"old")

    with pytest.raises(RuntimeError, match="the model broke"):
        _write_and_break(path)

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_trace_without_a_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"

    with (
        pytest.raises(TraceError, match="must have a token"),
        writing_trace(path, metadata(), weights=True, logits=True),
    ):
        pass

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none/trace\.parquet: the trace cannot be written"):
        write_example(tmp_path / "none" / "trace.parquet")


def test_same_tokens_make_the_same_file(tmp_path: Path) -> None:
    write_example(tmp_path / "a.parquet")
    write_example(tmp_path / "b.parquet")

    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux counts peak memory there")
def test_a_large_trace_is_written_in_bounded_memory_and_read_by_column(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    done = subprocess.run(
        [sys.executable, str(LARGE), str(path)], capture_output=True, text=True, check=True
    )

    trace = open_trace(path)
    logits = trace.read_layer(5, ("logits",))

    assert int(done.stdout) < 1024
    assert trace.num_tokens == 100_000
    assert logits.logits.shape == (100_000, 32)
    assert logits.experts is None


def test_a_folder_in_the_files_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "trace.parquet").mkdir()

    with pytest.raises(TraceError, match=r"trace\.parquet: the trace cannot be written"):
        write_example(tmp_path / "trace.parquet")

    assert list(tmp_path.iterdir()) == [tmp_path / "trace.parquet"]
