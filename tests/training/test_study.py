"""Variants of one recipe under several seeds, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from multiprocessing import active_children
from typing import TYPE_CHECKING

import pytest
from training.examples import RECIPE, recipe_at, text_at

from moeprof.errors import DeviceError, TextError, UsageError
from moeprof.training.figures import read_figures
from moeprof.training.study import StudyRun, run_study, study_runs

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.training.figures import Figures

STUDY = (
    RECIPE.partition("[[losses]]")[0].replace("seed = 3", "seed = 3\nnum_seeds = 2")
    + """
[[variants]]
name = "none"

[[variants]]
name = "balanced"
losses = [{ name = "switch", weight = 0.1 }]
gate = { bias_update_speed = 0.01 }
"""
)


class Counter:
    def __init__(self, stop_after: int | None = None) -> None:
        self.finished_runs: list[tuple[str, int]] = []
        self.promised = 0
        self._stop_after = stop_after

    def started(self, name: str, num_runs: int, num_workers: int) -> None:
        self.promised = num_runs

    def finished(self, run: StudyRun, outcome: Figures | str, num_done: int, num_runs: int) -> None:
        self.finished_runs.append((run.variant, run.seed))

    def stop_requested(self) -> bool:
        return self._stop_after is not None and len(self.finished_runs) >= self._stop_after


def test_every_variant_is_trained_under_every_seed_with_its_own_losses(tmp_path: Path) -> None:
    runs = study_runs(recipe_at(tmp_path, STUDY), tmp_path / "out")

    assert [(run.variant, run.seed) for run in runs] == [
        ("none", 3),
        ("balanced", 3),
        ("none", 4),
        ("balanced", 4),
    ]
    assert [len(run.request.loaded.recipe.losses) for run in runs] == [0, 1, 0, 1]
    assert len({run.request.out for run in runs}) == 4


def test_a_stopped_study_goes_on_and_ends_with_all_runs(tmp_path: Path) -> None:
    loaded, text = recipe_at(tmp_path, STUDY), text_at(tmp_path)
    counter = Counter(stop_after=1)
    out = tmp_path / "out"
    stopped = run_study(
        loaded,
        out,
        texts=[text],
        num_workers=1,
        observer=counter,
        stop_requested=counter.stop_requested,
    )
    finished_before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/train.json")}
    ended = run_study(loaded, out, texts=[text], num_workers=1, observer=Counter())

    assert int(stopped.exit_code) == 130
    assert 1 <= stopped.num_done < 4
    assert int(ended.exit_code) == 0
    assert [variant.name for variant in ended.variants] == ["none", "balanced"]
    assert all(path.stat().st_mtime_ns == moment for path, moment in finished_before.items())
    assert ended.variants[0].runs[1] == read_figures(out / "none" / "seed-4")
    document = json.loads((out / "study.json").read_bytes())
    assert document["num_done"] == document["num_runs"] == 4
    assert document["trigram_bits_per_byte"] > 0


def test_a_variant_that_diverges_is_told_of_and_the_others_go_on(tmp_path: Path) -> None:
    wild = STUDY.replace(
        'name = "none"', 'name = "wild"\nlosses = [{ name = "z-loss", weight = 1e38 }]'
    ).replace("num_seeds = 2\n", "")
    ended = run_study(
        recipe_at(tmp_path, wild),
        tmp_path / "out",
        texts=[text_at(tmp_path)],
        num_workers=1,
        observer=Counter(),
    )

    diverged, sound = ended.variants
    assert (len(diverged.runs), len(diverged.diverged)) == (0, 1)
    assert "grew without bound at step 0" in diverged.diverged[0]
    assert (len(sound.runs), sound.diverged) == (1, ())
    assert ended.exit_code == 0


def test_a_fault_of_the_text_is_told_before_any_run(tmp_path: Path) -> None:
    counter = Counter()
    with pytest.raises(TextError, match="no such text"):
        run_study(
            recipe_at(tmp_path, STUDY),
            tmp_path / "out",
            texts=[tmp_path / "missing"],
            num_workers=1,
            observer=counter,
        )

    assert counter.promised == 0


def test_a_study_is_not_written_into_its_own_text(tmp_path: Path) -> None:
    counter = Counter()
    with pytest.raises(UsageError, match="lies in the text folder"):
        run_study(
            recipe_at(tmp_path, STUDY),
            tmp_path / "out",
            texts=[tmp_path],
            num_workers=1,
            observer=counter,
        )

    assert counter.promised == 0


def test_a_worker_that_is_killed_ends_the_study_with_what_to_do(tmp_path: Path) -> None:
    def kill_workers() -> bool:
        for child in active_children():
            assert child.pid is not None
            with suppress(ProcessLookupError):  # asked again while the first kill takes effect
                os.kill(child.pid, signal.SIGKILL)
        return False

    with pytest.raises(DeviceError, match="was ended from outside") as caught:
        run_study(
            recipe_at(tmp_path, STUDY),
            tmp_path / "out",
            texts=[text_at(tmp_path)],
            num_workers=2,
            observer=Counter(),
            stop_requested=kill_workers,
        )

    assert "goes on" in (caught.value.hint or "")
