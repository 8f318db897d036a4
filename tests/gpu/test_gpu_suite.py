from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = Path(__file__).with_name("run.py")


@pytest.fixture
def run() -> Iterator[Any]:
    specification = importlib.util.spec_from_file_location("gpu_suite_run", FILE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["gpu_suite_run"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    yield module
    del sys.modules["gpu_suite_run"]


@pytest.fixture
def suite(run: Any, tmp_path: Path) -> Iterator[Any]:
    with (tmp_path / "suite.log").open("a", encoding="utf-8") as log:
        yield run.Suite("cuda:0", tmp_path, tmp_path, run.environment_of(tmp_path, None), log)


def known(out: Path, **kernels: dict[str, Any]) -> None:
    (out / "checks.json").write_text(json.dumps({"kernels": kernels}), encoding="utf-8")


def python(words: str) -> list[str]:
    return [sys.executable, "-c", words]


def test_all_stages_together_stay_below_ten_minutes(run: Any) -> None:
    assert sum(stage.seconds for stage in run.STAGES) <= run.TOTAL_SECONDS < 600 - run.GRACE_SECONDS


def test_a_stage_that_does_not_end_is_ended(run: Any, suite: Any) -> None:
    start = time.monotonic()
    outcome = run.run_process(
        python("import time; time.sleep(60)"), suite, seconds=0.5, watched=False
    )

    assert outcome == "out of time"
    assert time.monotonic() - start < 10


def test_a_kernel_that_hangs_is_noted_and_its_process_ended(
    run: Any, suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "HANG_SECONDS", 1)
    document = {"kernels": {}, "running": {"kernel": "stream", "since": time.time()}}
    (suite.out / "checks.json").write_text(json.dumps(document), encoding="utf-8")
    outcome = run.run_process(
        python("import time; time.sleep(60)"), suite, seconds=30.0, watched=True
    )

    assert outcome == "hung"
    assert run.dangerous(suite.out) == ["stream"]


def test_exit_codes_are_told_in_words(run: Any, suite: Any) -> None:
    def outcome(code: int) -> Any:
        return run.run_process(python(f"exit({code})"), suite, seconds=20.0, watched=False)

    assert [outcome(code) for code in (0, 10, 75, 3)] == ["ok", "wrong", "lost", "exit 3"]


def test_variants_of_a_kernel_that_hangs_are_not_tuned(run: Any, suite: Any) -> None:
    known(suite.out, stream={"passed": False, "lost": True})
    ended = run.run_stage(run.Stage("tune", 100, (), bounded=True), suite, 100.0)

    assert (ended.outcome, ended.detail) == ("skipped", "stream: see the checks")


def test_a_bench_leaves_out_what_hung_and_what_is_wrong(run: Any, suite: Any) -> None:
    bench = next(stage for stage in run.STAGES if stage.name == "bench")

    def words() -> list[str]:
        command: list[str] = run.command_of(bench, suite, 200.0)
        return command[5 : command.index("--device")]

    assert words() == ["--rounds", "20"]
    known(suite.out, a={"passed": True}, b={"passed": False, "lost": True}, c={"passed": False})
    assert words() == ["--rounds", "20", "a"]


def test_a_failing_stage_does_not_stop_the_next(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(stage: Any, suite: Any, seconds: float) -> list[str]:
        return python("raise SystemExit('error: broken')" if stage.name == "bench" else "pass")

    monkeypatch.setattr(run, "command_of", command)
    monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(tmp_path)])

    assert run.main() == 1
    told = capsys.readouterr().out
    assert "bench    exit 1" in told
    assert "error: broken" in told
    assert "sweep    ok" in told
    assert "targets\nnot measured" in told
    assert (tmp_path / "suite.md").is_file()


def test_the_suites_files_are_few(run: Any, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "quickstart").mkdir(parents=True)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("bench.json", "bench.csv", "bench.md", "bench.parquet", "bench.svg"):
        (out / name).write_text("x", encoding="utf-8")
    run.pack(scratch, out)

    assert {each.name for each in out.iterdir()} == {"bench.json", "bench.svg", "rest.tar.gz"}
