from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pytest

from moeprof.cli import main
from moeprof.dataset.parts import MEASUREMENTS_FOLDER, write_part
from moeprof.dataset.read import read_measurements
from moeprof.errors import ExitCode
from moeprof.report.commands import show_sweep

if TYPE_CHECKING:
    from pathlib import Path


def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, str]:
    """Return the exit code of a fit that is refused, and what it says."""
    monkeypatch.setattr(sys, "argv", ["moeprof", "fit-cost", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().err


def fit_cost(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "moeprof", "fit-cost", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of two batch sizes."""
    folder = tmp_path_factory.mktemp("swept") / "out"
    show_sweep("ci-smoke", out=folder, selector="sim:h200-sxm", seed=None, as_json=True)
    return folder


def test_a_fit_ends_with_one_json_document_and_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    show_sweep("quickstart", out=folder, selector="sim:h200-sxm", seed=None, as_json=True)

    done = fit_cost(folder, "--out", tmp_path / "m.json", "--holdout", "none", "--json")

    assert done.returncode == ExitCode.DONE, done.stderr
    document = json.loads(done.stdout)
    assert document["holdout"] == "none"
    assert document["methods"] == {}
    assert document["model_bytes"] == (tmp_path / "m.json").stat().st_size
    assert "reading" in done.stderr


def test_a_fit_from_too_few_batch_sizes_says_what_is_missing(swept: Path, tmp_path: Path) -> None:
    done = fit_cost(swept, "--out", tmp_path / "m.json")

    assert done.returncode == ExitCode.FIT
    assert "at 3 or more batch sizes" in done.stderr
    assert "at 2 (1, 16)" in done.stderr
    assert not (tmp_path / "m.json").exists()


def test_datasets_without_a_row_to_fit_to_are_refused(
    swept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed, empty = tmp_path / "failed", tmp_path / "empty"
    rows = read_measurements(swept)
    for folder, table in ((failed, rows.filter(pc.is_null(rows["latency_seconds"]))),
                          (empty, rows.slice(0, 0))):  # fmt: skip
        folder.mkdir()
        (folder / MEASUREMENTS_FOLDER).mkdir()
        for record in swept.glob("run-*.json"):
            (folder / record.name).write_bytes(record.read_bytes())
            write_part(folder / MEASUREMENTS_FOLDER / f"{record.stem[4:]}-00001.parquet", table)

    for folder, code, said in (
        (failed, ExitCode.FIT, "none of the rows can be fitted to: 20 unsupported"),
        (empty, ExitCode.DATASET, "holds no row"),
        (tmp_path / "nowhere", ExitCode.DATASET, "does not exist"),
    ):
        found, text = refusal(monkeypatch, capsys, folder, "--out", tmp_path / "m.json")
        assert found == code, text
        assert said in text
