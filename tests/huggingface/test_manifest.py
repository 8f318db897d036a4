from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from moeprof.errors import CheckpointError
from moeprof.huggingface.manifest import Manifest, RouterSettings, read_manifest, write_manifest

if TYPE_CHECKING:
    from pathlib import Path


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    manifest = Manifest(
        name="mini",
        tokens="bytes",
        router=RouterSettings(softmax_temperature=1.25, selection_bias=[[0.1, -0.1]]),
        upcycled={"layers": [0]},
        sha256={"model.safetensors": "ab"},
        training={"steps": 3},
    )

    write_manifest(tmp_path, manifest)

    assert read_manifest(tmp_path) == manifest
    document = json.loads((tmp_path / "moeprof.json").read_text())
    assert (document["format"], document["version"]) == ("moeprof-model", 1)


def test_a_folder_of_others_has_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"tokens": "words"}, "tokens: .* got 'words'"),
        ({"tokenz": 1}, "tokenz: .* got 1"),
        ({"router": {"softmax_temperature": 0.0}}, "router.softmax_temperature: .* got 0.0"),
        ({"router": {"selection_bias": [0.0]}}, "router.selection_bias.0: .* got 0.0"),
        ({"version": 0}, "version: .* got 0"),
        ({"format": "other"}, 'must have "format": "moeprof-model", got .other'),
    ],
)
def test_an_impossible_value_is_refused_with_its_key(
    tmp_path: Path, change: dict[str, object], fault: str
) -> None:
    document = Manifest(tokens="bytes").model_dump() | change
    (tmp_path / "moeprof.json").write_text(json.dumps(document))

    with pytest.raises(CheckpointError, match=f"moeprof.json: {fault}"):
        read_manifest(tmp_path)


def test_a_bias_that_is_not_finite_cannot_be_written() -> None:
    with pytest.raises(ValidationError):
        RouterSettings(selection_bias=[[float("nan")]])
