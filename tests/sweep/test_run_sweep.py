from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from moeprof.dataset.read import read_measurements, read_runs, read_samples
from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.faults import NO_FAULTS, Faults
from moeprof.device.sim.truth import truth_of
from moeprof.errors import ConditioningError, ExitCode
from moeprof.hardware.catalogue import gpu
from moeprof.recipe.load import LoadedRecipe, load_recipe
from moeprof.sweep.bench import Bench
from moeprof.sweep.meter import Meter
from moeprof.sweep.run import run_sweep

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.sweep.events import PointFinished, Progress, SweepEnded, SweepStarted

RECIPE = """
name = "run"
seed = 2

[workload]
models = ["mixtral-8x7b"]
kernels = ["torch-grouped"]
batch_sizes = [1, 4]
patterns = ["uniform", "active:4"]

[conditioning]
warm_up_seconds = 20

[stopping]
relative_half_width_fraction = 0.02

[order]
num_blocks = 2
sentinel_every = 2
"""


@dataclass
class Watcher:
    begun: list[SweepStarted] = field(default_factory=list)
    told: list[Progress] = field(default_factory=list)
    points: list[PointFinished] = field(default_factory=list)
    ends: list[SweepEnded] = field(default_factory=list)

    def started(self, event: SweepStarted) -> None:
        self.begun.append(event)

    def progressed(self, event: Progress) -> None:
        self.told.append(event)

    def finished(self, event: PointFinished) -> None:
        self.points.append(event)

    def ended(self, event: SweepEnded) -> None:
        self.ends.append(event)


def recipe(folder: Path, text: str = RECIPE) -> LoadedRecipe:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def device(faults: Faults = NO_FAULTS, *, name: str = "h200-sxm") -> SimulatedDevice:
    card = gpu(name)
    return SimulatedDevice(card, truth_of(card), seed=2, faults=faults)


def sweep(loaded: LoadedRecipe, out: Path, **more: object) -> SweepEnded:
    return run_sweep(loaded, device(), out, observer=Watcher(), **more)


def test_every_point_is_a_row_with_what_the_design_promises(tmp_path: Path) -> None:
    ended = sweep(recipe(tmp_path), tmp_path / "out")

    rows = [
        row
        for row in read_measurements(tmp_path / "out").to_pylist()
        if row["role"] == "point" and row["status"] == "ok"
    ]
    assert ended.statuses == {"ok": 3, "unsupported": 1}
    for row in rows:
        assert row["latency_seconds_ci_low"] <= row["latency_seconds"]
        assert row["latency_seconds"] <= row["latency_seconds_ci_high"]
        assert row["energy_joules"] > 0
        assert row["energy_source"] == "simulated"
        assert row["source"] == "simulated"
        assert row["warm_up_seconds"] >= 19
        assert row["idle_watts"] > 0
        assert row["num_launches"] >= row["num_samples"] > 0


def test_a_batch_too_small_for_a_pattern_is_a_row_that_says_so(tmp_path: Path) -> None:
    sweep(recipe(tmp_path), tmp_path / "out")

    (row,) = [
        row
        for row in read_measurements(tmp_path / "out").to_pylist()
        if row["status"] == "unsupported"
    ]
    assert row["batch_size"] == 1
    assert row["routing_pattern"] == "active:4"
    assert "N must lie in" in row["status_detail"]


def test_the_samples_of_a_row_are_kept(tmp_path: Path) -> None:
    sweep(recipe(tmp_path), tmp_path / "out")

    samples = read_samples(tmp_path / "out").to_pylist()
    for row in read_measurements(tmp_path / "out").to_pylist():
        mine = [s for s in samples if s["order_index"] == row["order_index"]]
        assert len(mine) == (row["num_samples"] or 0)


def test_ranks_with_equal_rows_are_measured_once_and_recorded_each(tmp_path: Path) -> None:
    text = RECIPE.replace(
        'patterns = ["uniform", "active:4"]',
        'patterns = ["balanced"]\nplacements = [{ num_ranks = 4 }]',
    ).replace("[1, 4]", "[4]")
    watcher = Watcher()
    run_sweep(recipe(tmp_path, text), device(), tmp_path / "out", observer=watcher)

    rows = [
        row for row in read_measurements(tmp_path / "out").to_pylist() if row["role"] == "point"
    ]
    assert [row["ep_rank"] for row in rows] == [0, 1, 2, 3]
    assert len({row["latency_seconds"] for row in rows}) == 1
    assert len({row["point_id"] for row in rows}) == 4
    assert [p.num_ranks for p in watcher.points if p.entry.role == "point"] == [4]


def test_a_lost_device_ends_the_sweep_and_the_same_command_goes_on(tmp_path: Path) -> None:
    loaded = recipe(tmp_path)
    whole = run_sweep(loaded, device(), tmp_path / "whole", observer=Watcher())
    lost_at = 0.9 * whole.wall_seconds  # conditioning takes most of it

    lost = run_sweep(
        loaded, device(Faults(lost_at_seconds=lost_at)), tmp_path / "out", observer=Watcher()
    )
    again = run_sweep(loaded, device(), tmp_path / "out", observer=Watcher())

    assert lost.lost is not None
    assert lost.exit_code == ExitCode.DEVICE
    assert 0 < lost.num_measured < lost.num_points
    assert again.num_skipped == lost.num_measured
    assert again.num_measured + again.num_skipped == again.num_points
    assert read_measurements(tmp_path / "out") == read_measurements(tmp_path / "whole")
    assert again.exit_code == ExitCode.DONE


def test_sensors_that_fail_half_way_cost_columns_and_no_points(tmp_path: Path) -> None:
    ended = run_sweep(
        recipe(tmp_path),
        device(Faults(sensors_fail_at_seconds=22.0)),
        tmp_path / "out",
        observer=Watcher(),
    )

    rows = read_measurements(tmp_path / "out").to_pylist()
    last = max(rows, key=lambda row: row["order_index"])
    assert ended.num_measured == ended.num_points
    assert last["latency_seconds"] > 0
    assert last["die_celsius"] is None
    assert last["energy_joules"] is None
    assert last["energy_absent_reason"]


def test_a_point_too_large_for_the_device_is_a_row(tmp_path: Path) -> None:
    text = RECIPE.replace(
        'models = ["mixtral-8x7b"]',
        'layers = [{ name = "vast", hidden_size = 65536, expert_size = 65536, num_experts = 64, '
        "top_k = 2 }]",
    )
    ended = sweep(recipe(tmp_path, text), tmp_path / "out")

    assert set(ended.statuses) == {"out_of_memory", "unsupported"}


def test_a_stop_is_granted_between_launches_and_nothing_is_lost(tmp_path: Path) -> None:
    loaded = recipe(tmp_path)
    watcher = Watcher()
    stopped = run_sweep(
        loaded,
        device(),
        tmp_path / "out",
        observer=watcher,
        stop_requested=lambda: len(watcher.points) >= 2,
    )
    sweep(loaded, tmp_path / "out")
    sweep(loaded, tmp_path / "whole")

    assert stopped.interrupted
    assert stopped.exit_code == ExitCode.INTERRUPTED
    assert len(watcher.points) == 2
    assert read_measurements(tmp_path / "out") == read_measurements(tmp_path / "whole")


def test_a_hold_without_a_thermometer_is_refused_before_anything_runs(tmp_path: Path) -> None:
    text = RECIPE.replace("warm_up_seconds = 20", "hold_celsius = [50]")

    with pytest.raises(ConditioningError, match="asks to hold 50 °C"):
        run_sweep(
            recipe(tmp_path, text),
            device(Faults(sensors_fail_at_seconds=0.0)),
            tmp_path / "out",
            observer=Watcher(),
        )

    assert not (tmp_path / "out").exists()


def test_a_held_temperature_is_held_or_the_row_says_how_near_it_came(tmp_path: Path) -> None:
    text = RECIPE.replace("warm_up_seconds = 20", "warm_up_seconds = 20\nhold_celsius = [45, 105]")
    sweep(recipe(tmp_path, text), tmp_path / "out")

    rows = read_measurements(tmp_path / "out").to_pylist()
    held = [row for row in rows if row["hold_celsius"] == 45 and row["latency_seconds"]]
    missed = [row for row in rows if row["hold_celsius"] == 105 and row["latency_seconds"]]
    assert all(abs(row["die_celsius"] - 45) <= 1 for row in held)
    assert {row["status"] for row in missed} == {"temperature_not_reached"}
    assert all("105" in row["status_detail"] for row in missed)


def test_the_run_says_what_was_asked_and_what_was_found(tmp_path: Path) -> None:
    loaded = recipe(tmp_path)
    sweep(loaded, tmp_path / "out")

    (run,) = read_runs(tmp_path / "out")
    assert run.recipe_text == loaded.text
    assert run.seed == 2
    assert run.notes["ceilings"]["bf16"]["source"] == "datasheet"
    assert run.notes["warm_up"]["seconds"] >= 19


def test_drift_is_told_by_the_sentinels(tmp_path: Path) -> None:
    ended = sweep(recipe(tmp_path), tmp_path / "out")

    assert ended.sentinel_drift_fraction is not None
    assert abs(ended.sentinel_drift_fraction) < 0.02


def test_the_observer_hears_of_every_step(tmp_path: Path) -> None:
    watcher = Watcher()
    run_sweep(recipe(tmp_path), device(), tmp_path / "out", observer=watcher)

    assert watcher.begun[0].num_points == 4
    assert {"warming up", "measuring"} <= {event.phase for event in watcher.told}
    assert any(event.interval is not None for event in watcher.told)
    assert any(event.remaining_seconds for event in watcher.told)
    assert len(watcher.ends) == 1
    assert set(watcher.ends[0].spent_seconds) <= {"conditioning", "first launches", "launches"}


def test_a_block_that_did_not_settle_says_so_in_every_row(tmp_path: Path) -> None:
    text = RECIPE.replace(
        "warm_up_seconds = 20", "warm_up_seconds = 0\nhold_celsius = [38]\nhold_seconds_max = 20"
    )
    sweep(recipe(tmp_path, text), tmp_path / "out")

    rows = [r for r in read_measurements(tmp_path / "out").to_pylist() if r["latency_seconds"]]
    assert {row["status"] for row in rows} == {"temperature_not_reached"}
    assert all(row["idle_celsius"] is not None for row in rows if row["idle_watts"] is not None)


def test_the_sentinel_is_one_that_the_kernels_take(tmp_path: Path) -> None:
    text = RECIPE.replace("[workload]", '[workload]\ndtypes = ["fp8", "bf16"]').replace(
        'models = ["mixtral-8x7b"]', 'models = ["tiny"]'
    )
    card = gpu("a100-sxm-80gb")
    a100 = SimulatedDevice(card, truth_of(card), seed=2)

    ended = run_sweep(recipe(tmp_path, text), a100, tmp_path / "out", observer=Watcher())

    assert "fp8" not in card.peak_flops_per_second
    assert ended.sentinel_spread_fraction is not None


def test_a_recording_that_changes_makes_another_run(tmp_path: Path) -> None:
    ids = tmp_path / "ids.csv"
    text = RECIPE.replace('patterns = ["uniform", "active:4"]', 'patterns = ["replay:ids.csv"]')
    ids.write_text("a,b\n0,1\n2,3\n", encoding="utf-8")
    first = sweep(recipe(tmp_path, text), tmp_path / "out")
    ids.write_text("a,b\n0,1\n2,4\n", encoding="utf-8")

    second = sweep(recipe(tmp_path, text), tmp_path / "out")

    assert second.run_id != first.run_id
    assert second.num_skipped == 0


def test_of_measured_ceilings_the_higher_counts(tmp_path: Path) -> None:
    card = device()
    bench = Bench(card, {}, Meter(card.now, lambda: False), recipe(tmp_path).recipe)
    now = bench.ceilings({})["bf16"]
    before = {**now, "bytes_per_second": 2 * now["bytes_per_second"], "flops_per_second": 1.0}

    found = bench.ceilings({"bf16": before})["bf16"]

    assert found["bytes_per_second"] == before["bytes_per_second"]
    assert found["flops_per_second"] == now["flops_per_second"]
