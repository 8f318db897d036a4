"""Claims about replayed recordings of expert ids."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moeprof.errors import WorkloadError
from moeprof.workload.routing import Replay, check, content_digest, draw, parse

if TYPE_CHECKING:
    from pathlib import Path


RECORDED = np.array([[0, 1], [2, 3], [4, 5], [6, 7], [0, 7]])


def recording(folder: Path, kind: str) -> Path:
    path = folder / f"ids{kind}"
    if kind == ".npy":
        np.save(path, RECORDED.astype(np.int16))
    elif kind == ".csv":
        lines = [",".join(map(str, token)) for token in RECORDED.tolist()]
        path.write_text("\n".join(["first,second", *lines, ""]))
    else:
        columns = {name: RECORDED[:, slot] for slot, name in enumerate(["a", "b"])}
        pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("kind", [".npy", ".csv", ".parquet"])
@pytest.mark.parametrize("num_tokens", [1, 3, 12])
def test_replay_is_consecutive_and_wraps(tmp_path: Path, kind: str, num_tokens: int) -> None:
    pattern = Replay(recording(tmp_path, kind))

    ids = draw(pattern, num_tokens=num_tokens, num_experts=8, top_k=2, seed=1)

    assert ids.dtype == np.int64
    around = np.concatenate([RECORDED] * 4)
    assert any(np.array_equal(ids, around[start : start + num_tokens]) for start in range(5))


def test_replay_starts_elsewhere_for_another_seed(tmp_path: Path) -> None:
    pattern = Replay(recording(tmp_path, ".npy"))

    firsts = {
        tuple(draw(pattern, num_tokens=2, num_experts=8, top_k=2, seed=seed)[0])
        for seed in range(40)
    }

    assert len(firsts) == len(RECORDED)


def test_a_csv_without_header_loses_no_token(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("3,4\n")

    ids = draw(Replay(path), num_tokens=2, num_experts=8, top_k=2, seed=0)

    assert ids.tolist() == [[3, 4], [3, 4]]


def test_a_rewritten_recording_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("3,4\n")
    draw(Replay(path), num_tokens=1, num_experts=8, top_k=2, seed=0)
    path.write_text("5,6\n\n")

    ids = draw(Replay(path), num_tokens=1, num_experts=8, top_k=2, seed=0)

    assert ids.tolist() == [[5, 6]]


def test_only_a_replay_has_a_content_digest(tmp_path: Path) -> None:
    path = recording(tmp_path, ".csv")

    assert content_digest(Replay(path)) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert content_digest(parse("uniform")) is None
    with pytest.raises(WorkloadError, match="No such file"):
        content_digest(Replay(tmp_path / "absent.npy"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.npy", None, "No such file"),
        ("ids.txt", b"0,1\n", "must end in .npy, .csv, .parquet, got '.txt'"),
        ("ids.npy", b"no array", "not a readable .npy file"),
        ("ids.parquet", b"no table", "not a readable .parquet file"),
        ("ids.csv", b"", "empty"),
        ("ids.csv", b"a,b\n", "no tokens"),
        ("ids.csv", b"0,1\n2,x\n", "'x'"),
        ("ids.csv", b"0,1\n2\n", "columns"),
        ("ids.csv", b"\xff\xfe0,1\n", "not a readable .csv file"),
        ("ids.csv", b"0,1,2\n", "top_k = 2 columns, got 3"),
        ("ids.csv", b"0,1\n2,8\n", "token 1, slot 1: expert id must lie in 0..7, got 8"),
        ("ids.csv", b"0,1\n-1,2\n", "token 1, slot 0: expert id must lie in 0..7, got -1"),
        ("ids.csv", b"0,1\n2,2\n", "token 1: experts must be distinct, got [2, 2]"),
    ],
)
def test_a_bad_recording_is_refused_where_it_is_bad(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WorkloadError) as refusal:
        check(Replay(path), num_experts=8, top_k=2, num_tokens=4)

    assert message in refusal.value.message
    assert str(path) in refusal.value.message


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2)),
        np.zeros(4, dtype=np.int64),
        np.zeros((0, 2), dtype=np.int64),
        np.array([[None, 1]], dtype=object),
    ],
)
def test_an_array_of_another_shape_or_type_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "ids.npy"
    np.save(path, array)

    with pytest.raises(WorkloadError, match=r"ids\.npy"):
        check(Replay(path), num_experts=8, top_k=2, num_tokens=4)


def test_a_parquet_file_with_gaps_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    pq.write_table(pa.table({"a": [0, None], "b": [1, 2]}), path)

    with pytest.raises(WorkloadError, match="column 'a' has 1 nulls"):
        check(Replay(path), num_experts=8, top_k=2, num_tokens=4)
