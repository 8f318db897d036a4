from __future__ import annotations

from contextlib import contextmanager
from importlib.metadata import EntryPoint, EntryPoints
from typing import TYPE_CHECKING, Any

import pytest

from moeprof.dataset.read import read_measurements, read_runs
from moeprof.device.registry import open_device
from moeprof.errors import RecipeError
from moeprof.kernel import auto, registry
from moeprof.kernel.check.quick import forget_checks
from moeprof.recipe.load import load_recipe
from moeprof.sweep.kernels import check_kernels
from moeprof.sweep.run import run_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECIPE = """
name = "checked"

[workload]
kernels = KERNELS
dtypes = ["fp32"]
batch_sizes = [1, 2]
layers = [{ name = "small", hidden_size = 64, expert_size = 48, num_experts = 4, top_k = 2 }]

[conditioning]
warm_up_seconds = 0

[stopping]
num_samples_min = 5
num_samples_max = 6

[energy]
enabled = false

[order]
sentinel_every = 0
"""


class Watcher:
    def __getattr__(self, name: str) -> Any:
        return lambda event: None


@contextmanager
def third_party() -> Iterator[None]:
    """Kernels of another package, and few for `auto` to choose from."""
    forget_checks()
    kernels = {
        "wrong": "kernel.check.check_examples:Wrong",
        "chosen": "kernel.check.check_examples:Chosen",
        "bare": "kernel.check.check_examples:Bare",
        "absent": "no_such_module:Kernel",
    }
    points = EntryPoints(
        EntryPoint(name, target, "moeprof.kernels") for name, target in kernels.items()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "entry_points", lambda group: points.select(group=group))
        patch.setattr(auto, "candidate_names", lambda kind: ("wrong", "chosen", "absent"))
        yield


def write(folder: Path, kernels: str, more: str = "") -> Path:
    path = folder / "recipe.toml"
    text = RECIPE.replace("KERNELS", f"{kernels}\n{more}")
    path.write_text(text, encoding="utf-8")
    return path


def sweep(folder: Path, kernels: str, more: str = "") -> Any:
    device = open_device("cpu", seed=0)
    loaded = load_recipe(write(folder, kernels, more))
    with third_party():
        ended = run_sweep(loaded, device, folder / "out", observer=Watcher())
    (run,) = read_runs(folder / "out")
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in read_measurements(folder / "out").to_pylist():
        rows.setdefault(row["kernel"], []).append(row)
    return ended, rows, run.notes


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("swept")
    return sweep(folder, '["torch-loop", "wrong", "chosen", "bare", "absent"]')


def test_a_kernel_that_fails_its_check_is_not_timed_and_its_rows_say_why(swept: Any) -> None:
    _, rows, notes = swept

    assert len(rows["wrong"]) == 2
    for row in rows["wrong"]:
        assert row["status"] == "failed"
        assert row["status_detail"].startswith("failed its check: relative error 0.3 exceeds 5e-06")
        assert row["latency_seconds"] is None
    assert all(row["latency_seconds"] for row in rows["torch-loop"])
    assert notes["checks"]["torch-loop, fp32, 64 x 48"].startswith("passed: relative error ")
    assert notes["checks"]["wrong, fp32, 64 x 48"].startswith("failed: relative error 0.3")


def test_work_that_shows_no_data_is_timed_and_the_run_says_it_was_not_checked(swept: Any) -> None:
    _, rows, notes = swept

    assert all(row["latency_seconds"] for row in rows["bare"])
    assert notes["checks"]["bare, fp32, 64 x 48"].startswith("not checked: its work shows neither")


def test_a_kernel_whose_library_is_missing_gives_rows_and_no_crash(swept: Any) -> None:
    _, rows, _ = swept

    assert {row["status"] for row in rows["absent"]} == {"unsupported"}
    assert all("no_such_module" in row["status_detail"] for row in rows["absent"])


def test_the_time_of_checks_is_kept_apart(swept: Any) -> None:
    ended, _, _ = swept

    assert ended.spent_seconds["checks"] > 0


def test_rows_name_what_a_kernel_chose(swept: Any) -> None:
    _, rows, notes = swept

    told = {
        name: {(r["kernel_choice"], r["kernel_version"], r["kernel_config_file"]) for r in found}
        for name, found in rows.items()
    }
    assert told["chosen"] == {("variant-4", "2.1", "table.json")}
    assert told["torch-loop"] == {(None, None, None)}
    assert "chosen, fp32, 64 x 48, variant-4" in notes["checks"]


def test_a_wrong_kernel_that_is_forced_by_name_is_timed(tmp_path: Path) -> None:
    _, rows, notes = sweep(tmp_path, '["wrong"]', 'unchecked_kernels = ["wrong"]')

    assert all(row["latency_seconds"] for row in rows["wrong"])
    assert "unchecked_kernels" in notes["checks"]["wrong, fp32, 64 x 48"]


def test_auto_is_a_kernel_of_its_own_whose_rows_say_which_ran(tmp_path: Path) -> None:
    ended, rows, _ = sweep(tmp_path, '["auto"]')

    assert ended.statuses.keys() <= {"ok", "imprecise"}
    assert [(row["kernel_choice"], row["kernel_version"]) for row in rows["auto"]] == [
        ("chosen/variant-4", "2.1")
    ] * 2
    assert ended.spent_seconds["checks"] > 0


def test_auto_is_a_known_name_and_a_misspelt_one_is_told(tmp_path: Path) -> None:
    check_kernels(load_recipe(write(tmp_path, '["auto"]')))

    with pytest.raises(RecipeError, match="did you mean auto"):
        check_kernels(load_recipe(write(tmp_path, '["auti"]')))
