"""Claims about what the import and export commands show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from dataset.importers.tables import make_package, moe_row, write_moe_perf

from moeprof.dataset.read import read_measurements
from moeprof.errors import UsageError
from moeprof.report.imported import (
    show_available,
    show_export_aiconfigurator,
    show_import_aiconfigurator,
    show_import_csv,
)

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = {"system": None, "engine": None, "version": None, "file": None}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder beside an installed package like aiconfigurator-core."""
    monkeypatch.syspath_prepend(make_package(tmp_path / "site"))
    return tmp_path / "out"


def test_the_list_names_every_table_and_whether_it_has_power(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_available(as_json=False)
    text = capsys.readouterr().out
    show_available(as_json=True)

    lines = [line.split() for line in text.splitlines()]
    assert ["│", "b200_sxm", "│", "trtllm", "│", "1.3.0", "│", "1", "│", "yes", "│"] in lines
    assert ["│", "h200_sxm", "│", "vllm", "│", "0.24.0", "│", "1", "│", "no", "│"] in lines
    document = json.loads(capsys.readouterr().out)
    assert [table["has_power"] for table in document["tables"]] == [True, False]


def test_an_import_tells_what_came_in_and_what_did_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [moe_row(), moe_row(latency=0.0), moe_row(device="Mine")]
    file = write_moe_perf(tmp_path / "moe_perf.parquet", *rows)

    for _ in range(2):
        show_import_aiconfigurator(**NOTHING | {"file": file}, out=tmp_path / "out", as_json=False)

    text = capsys.readouterr().out
    assert text.count("not finite or not above 0") == 2
    assert "no specification is known of Mine" in text
    assert "written" in text
    assert "was there already" in text
    assert read_measurements(tmp_path / "out", device_kinds=["imported:mine"]).num_rows == 1


def test_a_system_comes_with_its_transfers(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_import_aiconfigurator(**NOTHING | {"system": "h200_sxm"}, out=installed, as_json=True)

    document = json.loads(capsys.readouterr().out)
    (moe,) = document["imported"]
    assert moe["num_rows"] == moe["num_reconstructed"] == 1
    assert moe["weight_dtypes"] == {"bf16": 1}
    assert sum(document["transfers"].values()) == 2
    assert all(name.startswith("aiconfigurator_core/systems/") for name in document["transfers"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"out": None}, "--out must"), ({}, "one of --system and --file")],
)
def test_an_import_of_nothing_is_refused(
    tmp_path: Path, changes: dict[str, None], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        show_import_aiconfigurator(**{**NOTHING, "out": tmp_path, "as_json": False, **changes})


def test_a_csv_comes_in_and_an_export_goes_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "moe.csv"
    file.write_text("tokens,activated_experts,time_us\n4,16,33.5\n")
    shape = ["hidden_size=2048", "expert_size=768", "num_experts=128", "top_k=8"]
    given = [*shape, "device_name=NVIDIA H200", "weight_dtype=bf16", "activation_dtype=bf16"]
    given.append("routing_pattern=uniform")

    show_import_csv(
        file, layout="llmservingsim", constants=given, out=tmp_path / "out", as_json=True
    )
    show_export_aiconfigurator(tmp_path / "out", out=tmp_path / "x.parquet", as_json=False)

    text = capsys.readouterr().out
    assert '"num_rows": 1' in text
    assert "1 rows written" in text
    assert "moe_perf has no place for: num_active_experts" in " ".join(text.split())
    with pytest.raises(UsageError, match="NAME=VALUE"):
        show_import_csv(file, layout="frontier", constants=["a"], out=tmp_path, as_json=True)
