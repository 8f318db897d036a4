from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cost.conftest import measured_points, small_model

from moeprof.cost.layer_points import LayerRequest
from moeprof.cost.model_file import save_model
from moeprof.errors import DatasetError, ExitCode, UsageError
from moeprof.report.predicted import show_layer, show_points


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
    asked = LayerRequest("mixtral-8x7b", "1", "uniform")

    with pytest.raises(UsageError, match="one of --points and --layer must be given"):
        show_points(model_path, None, out=None, as_json=False)
    with pytest.raises(UsageError, match="only one of --points and --layer"):
        show_layer(model_path, asked, points=model_path, out=None, as_json=False)


def test_an_ending_that_cannot_be_written_is_refused_before_anything_is_read() -> None:
    absent = Path("absent.json")

    with pytest.raises(DatasetError, match=r"must end in \.parquet or \.csv, got '\.xlsx'"):
        show_points(absent, Path("absent.csv"), out=Path("out.xlsx"), as_json=False)


def test_more_than_forty_points_are_told_of_not_shown(
    model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = LayerRequest("mixtral-8x7b", "1..45", "uniform")
    show_layer(model_path, asked, points=None, out=None, as_json=False)

    assert "and 5 more rows: --out FILE, or --json" in capsys.readouterr().out
