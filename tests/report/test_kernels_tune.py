from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from bench_fakes import ScriptedDevice, ScriptedKernel

from moeprof.errors import ExitCode, KernelUnsupported
from moeprof.kernel.cuda.tuned import TunedEntry, TunedShape, TunedTable, load_table, save_table
from moeprof.report import kernels_tune
from moeprof.report.kernels_bench import bench_request
from moeprof.report.kernels_tune import show_tune

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.bench.request import BenchRequest

OTHER = TunedEntry(TunedShape("sm_80", "bf16", 64, 96, 8, 1), "kept", 1e-5)


def request() -> BenchRequest:
    return bench_request(("tiny",), tokens="1,4", dtypes=("bf16",), kernels=(), device="cpu")


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {
        "slow": ScriptedKernel("slow", lambda: 2e-3),
        "fast": ScriptedKernel("fast", lambda: 1e-3),
    }
    monkeypatch.setattr(kernels_tune, "open_device", lambda selector, seed: ScriptedDevice())
    monkeypatch.setattr(kernels_tune, "tunable", lambda device: ("sm_90a", found))
    # Scripted kernels compute nothing that could be checked.
    tune = kernels_tune.tune
    monkeypatch.setattr(kernels_tune, "tune", lambda *a, **k: tune(*a, **k, check=None))


@pytest.mark.usefixtures("variants")
def test_the_table_gets_the_fastest_and_keeps_other_shapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tuned.json"
    save_table(TunedTable((OTHER,), path.name), path, note={})

    code = show_tune(request(), out=path, as_json=False)
    entries = load_table(path).entries

    assert code is ExitCode.DONE
    assert {each.variant for each in entries if each != OTHER} == {"fast"}
    assert OTHER in entries
    assert len(entries) == 3
    assert f"MOEPROF_TUNED={path}" in capsys.readouterr().out
    assert json.loads(path.read_text(encoding="utf-8"))["note"]["device"] == "a scripted device"


@pytest.mark.usefixtures("variants")
def test_without_a_file_the_users_table_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOEPROF_TUNED", str(tmp_path / "mine.json"))

    show_tune(request(), out=None, as_json=True)
    document = json.loads(capsys.readouterr().out)

    assert document["path"] == str(tmp_path / "mine.json")
    assert [each["variant"] for each in document["entries"]] == ["fast", "fast"]


def test_a_cpu_has_nothing_to_tune(tmp_path: Path) -> None:
    with pytest.raises(KernelUnsupported, match="there is nothing to tune"):
        show_tune(request(), out=tmp_path / "t.json", as_json=False)

    assert not (tmp_path / "t.json").exists()
