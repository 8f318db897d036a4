from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from moeprof import __version__
from moeprof.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path


def moeprof(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "moeprof", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def sweep_json(out: Path, *more: str) -> dict[str, object]:
    done = moeprof("sweep", "ci-smoke", "--out", out, "--device", "sim:h200-sxm", "--json", *more)
    assert done.returncode == ExitCode.DONE, done.stderr
    return json.loads(done.stdout)


def test_the_version_is_the_packages() -> None:
    assert moeprof("--version").stdout.strip() == f"moeprof {__version__}"


def test_importing_the_command_line_loads_no_heavy_library() -> None:
    code = "import sys, moeprof.cli; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"torch", "pandas", "pyarrow", "numpy", "pydantic"} & set(loaded)


def test_a_simulated_sweep_never_loads_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from moeprof.report.commands import show_sweep; from pathlib import Path;"
        f"show_sweep('ci-smoke', out=Path({str(tmp_path / 'out')!r}), selector='sim:h200-sxm',"
        "seed=None, as_json=True); assert 'torch' not in sys.modules"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_a_sweep_ends_with_one_json_document(tmp_path: Path) -> None:
    document = sweep_json(tmp_path / "out")

    assert {
        "out", "run_id", "num_points", "num_measured", "num_skipped", "statuses",
        "overhead_fraction", "wall_seconds", "sentinel_drift_fraction",
    } <= set(document)  # fmt: skip
    assert document["num_points"] == document["num_measured"]
    assert sum(document["statuses"].values()) == document["num_points"]


def test_the_same_command_again_measures_nothing_again(tmp_path: Path) -> None:
    first = sweep_json(tmp_path / "out")
    again = sweep_json(tmp_path / "out")

    assert again["run_id"] == first["run_id"]
    assert again["num_measured"] == 0
    assert again["num_skipped"] == first["num_points"]
    assert again["statuses"] == first["statuses"]


def test_another_seed_is_another_run_beside_it(tmp_path: Path) -> None:
    first = sweep_json(tmp_path / "out")
    other = sweep_json(tmp_path / "out", "--seed", "7")

    assert other["run_id"] != first["run_id"]
    assert other["num_skipped"] == 0


def test_a_piped_sweep_tells_progress_on_stderr_and_the_table_on_stdout(tmp_path: Path) -> None:
    done = moeprof("sweep", "ci-smoke", "--out", tmp_path / "out", "--device", "sim:h200-sxm")

    assert re.search(r"\[\d+/\d+\] mixtral-8x7b", done.stderr)
    assert "roofline" in done.stdout
    assert "SIMULATED" in done.stdout
    assert "next: moeprof report" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_a_report_shows_what_a_dataset_holds(tmp_path: Path) -> None:
    sweep_json(tmp_path / "out")

    done = moeprof("report", tmp_path / "out")
    steps = json.loads(moeprof("report", tmp_path / "out", "--json").stdout)["steps"]

    assert done.returncode == ExitCode.DONE, done.stderr
    assert "torch-grouped" in done.stdout
    assert len(steps) == 2 * 2 * 2 * 2 * 2


def test_a_plan_is_counted_without_a_device() -> None:
    done = moeprof("sweep", "mixtral-decode", "--out", "unused", "--dry-run", "--json")

    assert json.loads(done.stdout)["num_points"] == 64 * 2 * 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sweep", "no-such-recipe", "--out", "o"], ExitCode.INPUT, "no such recipe"),
        (["sweep", "ci-smoke", "--out", "o", "--device", "sim:h20"], ExitCode.DEVICE, "h200-sxm"),
        (["sweep", "ci-smoke", "--out", "o", "--device", "tpu"], ExitCode.DEVICE, "auto"),
        (["sweep", "ci-smoke"], ExitCode.USAGE, "--out"),
        (["report", "nowhere"], ExitCode.DATASET, "nowhere"),
        (["swep"], ExitCode.USAGE, "swep"),
    ],
)
def test_a_mistake_is_one_message_and_its_exit_code(
    tmp_path: Path, arguments: list[str], code: ExitCode, said: str
) -> None:
    done = moeprof(*arguments, cwd=tmp_path)

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


def test_a_folder_that_is_no_dataset_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")

    done = moeprof("sweep", "ci-smoke", "--out", tmp_path, "--device", "sim:h200-sxm")

    assert done.returncode == ExitCode.DATASET
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_unknown_kernel_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "x"\n[workload]\nmodels = ["tiny"]\nbatch_sizes = [1]\nkernels = ["torch-lop"]\n',
        encoding="utf-8",
    )

    done = moeprof("sweep", recipe, "--out", tmp_path / "out", "--device", "sim:h200-sxm")

    assert done.returncode == ExitCode.INPUT
    assert "torch-loop" in done.stderr


def test_a_run_whose_record_is_missing_is_told_and_not_passed_over(tmp_path: Path) -> None:
    sweep_json(tmp_path / "out")
    for record in (tmp_path / "out").glob("run-*.json"):
        record.unlink()

    done = moeprof("report", tmp_path / "out")

    assert done.returncode == ExitCode.DATASET
    assert "is missing" in done.stderr
    assert sweep_json(tmp_path / "out")["num_measured"] == 0


def test_a_report_of_runs_on_two_kinds_of_device_shows_both(tmp_path: Path) -> None:
    for name in ("h200-sxm", "b200"):
        done = moeprof("sweep", "ci-smoke", "--out", tmp_path, "--device", f"sim:{name}", "--json")
        assert done.returncode == ExitCode.DONE, done.stderr

    done = moeprof("report", tmp_path)

    assert done.returncode == ExitCode.DONE, done.stderr
    assert "H200" in done.stdout
    assert "B200" in done.stdout


def test_samples_that_are_damaged_are_told_before_anything_is_measured(tmp_path: Path) -> None:
    sweep_json(tmp_path / "out")
    (part,) = (tmp_path / "out" / "samples").glob("*.parquet")
    part.write_bytes(b"garbage" * 1000)

    done = moeprof("sweep", "ci-smoke", "--out", tmp_path / "out", "--device", "sim:h200-sxm")

    assert done.returncode == ExitCode.DATASET
    assert part.name in done.stderr


def test_ctrl_c_ends_with_130_and_the_command_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "moeprof", "sweep", "ci-smoke", "--out", tmp_path / "out"]
    sweep = subprocess.Popen(
        [*command, "--device", "sim:h200-sxm"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert sweep.stderr is not None
    for line in sweep.stderr:
        if re.match(r"\[[1-9]", line):
            sweep.send_signal(signal.SIGINT)
            break
    out, _ = sweep.communicate()

    assert sweep.returncode == ExitCode.INTERRUPTED
    assert f"to go on from here: moeprof sweep ci-smoke --out {tmp_path / 'out'}" in out
    resumed = sweep_json(tmp_path / "out")
    assert resumed["num_skipped"] >= 1
    assert resumed["num_measured"] + resumed["num_skipped"] == resumed["num_points"]


def test_doctor_says_yes_or_no_and_why() -> None:
    document = json.loads(moeprof("doctor", "--json").stdout)

    assert document["can_sweep"] is True
    for each in document["capabilities"]:
        assert each["detail"]
        assert each["available"] or each["remedy"], each["name"]
