"""Claims about the report of a dataset that somebody else measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dataset.importers.tables import moe_row, write_moe_perf

from moeprof.report.commands import show_dataset
from moeprof.report.imported import show_import_aiconfigurator

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def import_rows(tmp_path: Path) -> Path:
    """Import four rows: one of a model that no catalogue has, one without a latency."""
    rows = [
        moe_row(power=500.0),
        moe_row(power=510.0, num_tokens=64, latency=1.5, kernel_source="vllm_other"),
        moe_row(power=520.0, hidden_size=1000, version="0.25.0"),
        moe_row(power=530.0, latency=0.0),
    ]
    file = write_moe_perf(tmp_path / "moe_perf.parquet", *rows)
    out = tmp_path / "out"
    show_import_aiconfigurator(
        system=None, engine=None, version=None, file=file, out=out, as_json=True
    )
    return out


def test_an_imported_run_is_counted_and_not_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = import_rows(tmp_path)
    capsys.readouterr()

    show_dataset(out, every_row=False, as_json=False)

    lines = [
        " ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.split("\n")
    ]
    expected = [
        *("moe_perf.parquet · IMPORTED", "device NVIDIA H200 4", "engine vllm 0.24.0 3"),
        *("vllm 0.25.0 1", "kernel vllm_fused_moe 3", "vllm_other 1", "weights bf16 4"),
        *("routing power_law:1.01 4", "tokens 16 to 64 4", "latency 731 µs to 1.50 ms 3"),
        *("row counts reconstructed from the pattern 3", "power yes 4"),
        "refused the latency is missing, not finite or not above 0 1",
    ]
    assert [each for each in expected if each not in lines] == []


def test_the_document_has_the_counts_and_no_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = import_rows(tmp_path)
    capsys.readouterr()

    show_dataset(out, every_row=False, as_json=True)

    document = json.loads(capsys.readouterr().out)
    (imported,) = document["imported"]
    assert document["steps"] == []
    assert imported["num_rows"] == 4
    assert imported["num_refused"] == 1
    assert imported["num_with_energy"] == 3
    assert imported["latency_seconds_max"] == 0.0015
    assert imported["licence"] is None
