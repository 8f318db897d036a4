from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from cost.conftest import measured_points, small_model

from moeprof.cost.model_file import save_model
from moeprof.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.json"
    save_model(small_model(), path)
    return path


def predict(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "moeprof", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_layer_is_predicted_as_a_table(model_path: Path) -> None:
    done = predict(model_path, "--layer", "mixtral-8x7b", "--tokens", "1..3", "--celsius", "70")

    assert done.returncode == ExitCode.DONE, done.stderr
    assert "mixtral-8x7b" in done.stdout
    assert "active experts" in done.stdout
    assert done.stdout.count("µs") + done.stdout.count(" ms") >= 6
    assert done.stdout.count("mJ") >= 3


def test_points_in_a_file_are_predicted_into_another(model_path: Path, tmp_path: Path) -> None:
    asked = measured_points().drop_columns(["latency_seconds"])
    pq.write_table(asked, tmp_path / "points.parquet")
    out = tmp_path / "out.csv"
    done = predict(model_path, "--points", tmp_path / "points.parquet", "--out", out)
    again = predict(model_path, "--points", out, "--json")

    assert done.returncode == ExitCode.DONE, done.stderr
    assert f"{asked.num_rows} points predicted" in done.stdout
    assert again.returncode == ExitCode.DONE, again.stderr
    document = json.loads(again.stdout)
    assert document["num_points"] == asked.num_rows
    assert len(document["points"]) == asked.num_rows
    assert {
        "predicted_latency_seconds", "predicted_latency_seconds_low", "predicted_weights_seconds",
        "predicted_energy_joules_high", "extrapolating",
    } <= document["points"][0].keys()  # fmt: skip


def test_what_is_no_model_is_an_error_of_the_input(tmp_path: Path) -> None:
    wrong = tmp_path / "package.json"
    wrong.write_text('{"name": "left-pad"}', encoding="utf-8")
    done = predict(wrong, "--layer", "mixtral-8x7b")

    assert done.returncode == ExitCode.INPUT
    assert done.stderr.startswith(f"error: {wrong}: is no cost model")
    assert "hint:" in done.stderr
    assert not done.stdout


def test_points_and_a_layer_exclude_each_other_and_one_is_needed(model_path: Path) -> None:
    neither = predict(model_path)
    both = predict(model_path, "--layer", "mixtral-8x7b", "--points", "points.csv")

    assert neither.returncode == both.returncode == ExitCode.USAGE
    assert "--points and --layer" in neither.stderr
    assert "--points and --layer" in both.stderr
