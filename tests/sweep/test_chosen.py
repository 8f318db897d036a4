from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moeprof.cost.fit import FitSettings, fit_cost
from moeprof.cost.points import observed_from_table, points_from_table
from moeprof.dataset.read import read_measurements
from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.truth import truth_of
from moeprof.hardware.catalogue import gpu
from moeprof.recipe.load import LoadedRecipe, load_recipe
from moeprof.sweep.chosen import Chooser
from moeprof.sweep.run import run_sweep

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.cost.model import CostModel
    from moeprof.sweep.events import PointFinished, Progress, SweepEnded, SweepStarted

RECIPE = """
name = "chosen"
seed = 3

[workload]
models = ["mixtral-8x7b"]
kernels = ["torch-grouped"]
batch_sizes = {sizes}
patterns = ["uniform", "active:2"]

[conditioning]
warm_up_seconds = 5

[stopping]
relative_half_width_fraction = 0.02

[energy]
enabled = false

[order]
num_blocks = 2
sentinel_every = 8
"""
COARSE = "[1, 2, 4, 8, 16, 32, 64]"
FINE = '"1..24"'
NUM_POINTS = 48


class Silent:
    def __init__(self) -> None:
        self.num_points = 0

    def started(self, event: SweepStarted) -> None:
        pass

    def progressed(self, event: Progress) -> None:
        pass

    def finished(self, event: PointFinished) -> None:
        self.num_points += event.entry.role == "point"

    def ended(self, event: SweepEnded) -> None:
        pass


def recipe(folder: Path, sizes: str) -> LoadedRecipe:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(sizes=sizes), encoding="utf-8")
    return load_recipe(path)


def sweep(
    loaded: LoadedRecipe, out: Path, chooser: Chooser | None = None, most: int = 1000
) -> SweepEnded:
    card = gpu("h200-sxm")
    watcher = Silent()
    return run_sweep(
        loaded,
        SimulatedDevice(card, truth_of(card), seed=3),
        out,
        observer=watcher,
        stop_requested=lambda: watcher.num_points >= most,
        chooser=chooser,
    )


@pytest.fixture(scope="module")
def coarse_model(tmp_path_factory: pytest.TempPathFactory) -> CostModel:
    folder = tmp_path_factory.mktemp("coarse")
    sweep(recipe(folder, COARSE), folder / "out")
    table = read_measurements(folder / "out")
    return fit_cost(
        points_from_table(table),
        observed_from_table(table),
        settings=FitSettings(num_steps=60, num_rehearsal_steps=20),
    )


def test_a_model_that_is_sure_enough_has_nothing_measured(
    coarse_model: CostModel, tmp_path: Path
) -> None:
    chooser = Chooser(coarse_model, 1.0)

    ended = sweep(recipe(tmp_path, FINE), tmp_path / "out", chooser)

    assert ended.num_measured == 0
    assert chooser.chosen is not None
    assert chooser.chosen.reached
    assert chooser.chosen.num_points == NUM_POINTS


def test_a_sweep_ends_when_the_error_asked_for_is_reached(
    coarse_model: CostModel, tmp_path: Path
) -> None:
    chooser = Chooser(coarse_model, 0.02)

    ended = sweep(recipe(tmp_path, FINE), tmp_path / "out", chooser)

    assert chooser.chosen is not None
    assert chooser.chosen.reached
    assert 0 < chooser.chosen.num_measured < NUM_POINTS
    assert ended.num_measured == chooser.chosen.num_measured
    roles = read_measurements(tmp_path / "out")["role"].to_pylist()
    assert roles.count("point") == ended.num_measured
    assert "sentinel" in roles


def test_an_error_that_cannot_be_reached_has_all_points_measured(
    coarse_model: CostModel, tmp_path: Path
) -> None:
    chooser = Chooser(coarse_model, 1e-9)

    ended = sweep(recipe(tmp_path, "[1, 3, 5, 7]"), tmp_path / "out", chooser)

    assert chooser.chosen is not None
    assert not chooser.chosen.reached
    assert ended.num_measured == chooser.chosen.num_measured == chooser.chosen.num_points == 8


def test_a_sweep_that_was_stopped_goes_on_and_measures_nothing_twice(
    coarse_model: CostModel, tmp_path: Path
) -> None:
    loaded, out = recipe(tmp_path, FINE), tmp_path / "out"
    whole = Chooser(coarse_model, 0.02)
    sweep(loaded, tmp_path / "whole", whole)

    first = sweep(loaded, out, Chooser(coarse_model, 0.02), most=3)
    again = Chooser(coarse_model, 0.02)
    second = sweep(loaded, out, again)

    assert first.interrupted
    assert first.num_measured == 3
    assert not second.interrupted
    assert again.chosen is not None
    assert again.chosen.reached
    orders = read_measurements(out)["order_index"].to_pylist()
    assert len(orders) == len(set(orders))
    assert second.num_skipped == 3
    assert again.chosen.num_measured == 3 + second.num_measured
