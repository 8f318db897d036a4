from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from kernel.check.check_examples import Altered, scaled
from typer.main import get_command

from moeprof.cli.kernels import kernels_app
from moeprof.errors import ExitCode, UsageError, WorkloadError
from moeprof.kernel.absent import AbsentKernel
from moeprof.kernel.check.verdict import CaseResult, KernelVerdict
from moeprof.kernel.registry import kernel_names
from moeprof.report import kernels_check
from moeprof.report.kernels_check import CheckRequest, check_table, fault_lines, show_check
from moeprof.report.kernels_request import bench_request

KERNELS: dict[str, Any] = {
    "right": Altered(name="right"),
    "wrong": Altered(scaled, name="wrong"),
    "absent": AbsentKernel("absent", "not installed"),
}


def moeprof(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "moeprof", "kernels", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels_check, "check_name", lambda name: None)
    monkeypatch.setattr(kernels_check, "kernel_names", lambda: tuple(KERNELS))
    monkeypatch.setattr(kernels_check, "loaded_or_absent", KERNELS.__getitem__)


def check(*kernels: str, as_json: bool = True) -> ExitCode:
    request = CheckRequest(kernels, dtypes=("bf16",), device="cpu")
    return show_check(request, as_json=as_json)


@pytest.mark.parametrize("command", sorted(get_command(kernels_app).commands))
def test_every_option_has_help(command: str) -> None:
    for option in get_command(kernels_app).commands[command].params:
        assert getattr(option, "help", None), f"{command} {option.name}"


def test_the_list_has_every_kernel_and_says_why_one_does_not_run_here() -> None:
    done = moeprof("list", "--device", "cpu", "--json")

    assert done.returncode == ExitCode.DONE, done.stderr
    found = {each["name"]: each for each in json.loads(done.stdout)["kernels"]}
    assert set(found) == set(kernel_names())
    assert found["torch-loop"]["runs"]
    assert "bf16" in found["torch-loop"]["dtypes"]
    assert "torch" in found["torch-loop"]["versions"]
    assert not found["stream"]["runs"]
    assert found["stream"]["reason"]


def test_a_check_of_right_kernels_passes_from_the_command_line() -> None:
    done = moeprof("check", "torch-grouped", "--device", "cpu", "--dtype", "bf16")

    assert done.returncode == ExitCode.DONE, done.stderr
    assert "torch-grouped" in done.stdout
    assert "right" in done.stdout


@pytest.mark.usefixtures("_fakes")
def test_one_wrong_kernel_among_all_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert check() == ExitCode.GATE_FAILED

    found = {each["kernel"]: each for each in json.loads(capsys.readouterr().out)["kernels"]}
    assert found["right"]["passed"]
    assert found["wrong"]["fault"].startswith("relative error 0.3 exceeds 0.03")
    assert found["absent"]["refused"] == "not installed"


@pytest.mark.usefixtures("_fakes")
def test_a_kernel_that_does_not_run_here_is_no_failure_unless_none_does() -> None:
    assert check("right", "absent") == ExitCode.DONE
    assert check("absent") == ExitCode.DEVICE


@pytest.mark.usefixtures("_fakes")
def test_the_table_names_the_worst_error_and_every_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    check("right", "wrong", "absent", as_json=False)

    lines = capsys.readouterr().out.splitlines()
    (right,) = [line for line in lines if line.startswith("│ right")]
    (absent,) = [line for line in lines if line.startswith("│ absent")]
    assert "3.0e-02" in right
    assert right.rstrip("│ ").endswith("right")
    assert "refused: not installed" in absent
    assert sum(line.startswith("wrong: ") for line in lines) >= 10


def test_faults_are_told_with_the_rows_that_show_them() -> None:
    case = CaseResult("hot", "bf16", 64, 48, (1, 40), 0.03, 0.31, "relative error 0.31")
    verdict = KernelVerdict("stream", (case,))

    assert list(fault_lines(verdict)) == [
        "stream: relative error 0.31 (hot, bf16, 64 x 48; rows (1, 40))"
    ]
    assert check_table([verdict], title="t").row_count == 1


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (CheckRequest(("torch-lop",)), WorkloadError, "torch-loop"),
        (CheckRequest(("auto",)), UsageError, "auto computes nothing by itself"),
        (CheckRequest(dtypes=("fp7",)), UsageError, "--dtype must be one of"),
    ],
)
def test_what_cannot_be_checked_is_refused(
    request_: CheckRequest, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        show_check(request_, as_json=True)


def asked(**changes: Any) -> Any:
    plain = {
        "tokens": "1..3",
        "dtypes": (),
        "kernels": (),
        "device": "cpu",
        "pattern": "uniform",
        "seed": 0,
        "rounds": 5,
        "seconds": None,
    }
    return bench_request(("tiny",), **(plain | changes))


def test_a_bench_is_asked_for_in_the_words_of_a_recipe() -> None:
    request = asked()

    assert request.batch_sizes == (1, 2, 3)
    assert [layer.name for layer in request.layers] == ["tiny"]
    assert asked(tokens=None).batch_sizes == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": "0"}, "--tokens must be at least 1"),
        ({"dtypes": ("bf61",)}, "--dtype must be bf16, fp16, fp32 or fp8_block, got 'bf61'"),
        ({"l2": "hot"}, "--l2 must be cold or warm, got 'hot'"),
    ],
)
def test_a_bench_of_nonsense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked(**changes)
