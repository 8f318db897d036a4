"""A checkpoint that was damaged in any way is refused, with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from moeprof.errors import CheckpointError
from moeprof.training.checkpoint import Place, load_checkpoint, save_checkpoint
from moeprof.training.curve import Curve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLACE = Place(
    identity={"recipe": "r"},
    conditions={"threads": "1"},
    num_done=7,
    num_curve_bytes=70,
    num_reading_bytes=7,
    spent_seconds=1.5,
    validation_bits_per_byte=2.5,
    best_bits_per_byte=None,
    best_step=None,
)
TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3.0)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, PLACE, TENSORS)
    return path


def test_what_is_saved_is_loaded(path: Path) -> None:
    found = load_checkpoint(path)

    assert found is not None
    place, tensors = found
    assert place == PLACE
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "checkpoint.safetensors") is None


def flip(position: int) -> Callable[[bytes], bytes]:
    def flipped(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[position] ^= 1
        return bytes(changed)

    return flipped


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"PK\x03\x04" + data,
        flip(0),
        flip(-1),
        flip(-20),
        lambda data: data.replace(b'num_done\\": 7', b'num_done\\": 8'),
        lambda data: data.replace(b'"a"', b'"c"'),
    ],
)
def test_a_damaged_checkpoint_names_the_file_and_the_remedy(
    path: Path, damage: Callable[[bytes], bytes]
) -> None:
    whole = path.read_bytes()
    damaged = damage(whole)
    assert damaged != whole
    path.write_bytes(damaged)

    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: is damaged") as caught:
        load_checkpoint(path)
    assert "Remove the file" in (caught.value.hint or "")


def test_every_flipped_bit_of_the_tensors_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    num_bytes = sum(tensor.numel() * 4 for tensor in TENSORS.values())
    for position in range(1, num_bytes + 1):
        path.write_bytes(flip(-position)(whole))
        with pytest.raises(CheckpointError, match="its content has changed"):
            load_checkpoint(path)


def test_a_checkpoint_of_another_format_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"moeprof-checkpoint-1", b"moeprof-checkpoint-9"))

    with pytest.raises(CheckpointError, match="must be of the format"):
        load_checkpoint(path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "no" / "checkpoint.safetensors", PLACE, TENSORS)


def test_a_curve_is_cut_to_where_the_checkpoint_stands(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    curve = Curve.at(path, 12)
    curve.add({"step": 3})
    curve.close()

    assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'


def test_a_curve_that_does_not_reach_the_disk_is_named(tmp_path: Path) -> None:
    curve = Curve.at(tmp_path / "curve.jsonl", 0)
    curve.close()

    with pytest.raises(CheckpointError, match=r"curve\.jsonl: cannot be written"):
        curve.sync()


def test_a_curve_shorter_than_its_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_bytes(b'{"step": 1}\n')

    with pytest.raises(CheckpointError, match="at least 24 bytes") as caught:
        Curve.at(path, 24)
    assert caught.value.hint
