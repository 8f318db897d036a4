"""What each command shows: the floors below called in turn, their results printed."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from moeprof.analysis.temperature_effect import temperature_effects
from moeprof.dataset.read import read_measurements, read_runs, runs_with_rows
from moeprof.device.capabilities import capabilities
from moeprof.device.registry import open_device
from moeprof.errors import DatasetError, ExitCode, StoppedAtOnce
from moeprof.kernel.capabilities import capabilities as kernel_capabilities
from moeprof.recipe.load import find_recipe, load_recipe
from moeprof.report import human
from moeprof.report.adaptive import chosen_document, chosen_lines
from moeprof.report.consoles import console_on, print_json
from moeprof.report.doctor import doctor_table
from moeprof.report.effects import effect_documents, effect_lines
from moeprof.report.imported_summary import imported_summary, is_imported, summary_table
from moeprof.report.lines import PlainLines
from moeprof.report.live import LivePanel
from moeprof.report.results import step_lines
from moeprof.report.summary import summary_lines
from moeprof.report.table import tables
from moeprof.sweep.kernels import check_kernels
from moeprof.sweep.plan import make_plan
from moeprof.sweep.run import run_sweep
from moeprof.sweep.stop import stop_on_signals

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from rich.console import Console

    from moeprof.report.adaptive import Adaptive
    from moeprof.sweep.events import SweepEnded

_NUM_ROWS_SHOWN = 60


def show_doctor(*, as_json: bool) -> ExitCode:
    """Print what can be measured here; DONE if a sweep can run, else DEVICE."""
    device = open_device("auto", seed=0)
    try:
        found = (*capabilities(), *kernel_capabilities(device.identity))
    finally:
        device.close()
    can_sweep = any(each.available and each.name in {"CUDA", "CPU"} for each in found)
    if as_json:
        print_json({"can_sweep": can_sweep, "capabilities": [asdict(each) for each in found]})
    else:
        console = console_on(sys.stdout)
        console.print(doctor_table(found))
        console.print(f"a sweep can run here: {'yes' if can_sweep else 'no'}")
    return ExitCode.DONE if can_sweep else ExitCode.DEVICE


def show_plan(recipe: str, *, seed: int | None, as_json: bool) -> ExitCode:
    """Print how many points a recipe has and in what order they would be measured."""
    loaded = load_recipe(find_recipe(recipe), seed=seed)
    check_kernels(loaded)
    plan = make_plan(loaded)
    blocks = [
        {"hold_celsius": block.hold_celsius, "num_entries": len(block.entries)}
        for block in plan.blocks
    ]
    facts: dict[str, Any] = {
        "recipe": loaded.recipe.name,
        "seed": loaded.recipe.seed,
        "num_points": plan.num_points,
        "num_sentinels": plan.num_sentinels,
        "blocks": blocks,
    }
    if as_json:
        print_json(facts)
        return ExitCode.DONE
    console = console_on(sys.stdout)
    warm_up = human.duration(loaded.recipe.conditioning.warm_up_seconds)
    console.print(
        f"{loaded.recipe.name}: {plan.num_points} points and {plan.num_sentinels} sentinels "
        f"in {len(plan.blocks)} blocks, after {warm_up} of warm-up"
    )
    for number, block in enumerate(plan.blocks, start=1):
        held = human.celsius(block.hold_celsius) if block.hold_celsius is not None else "not held"
        console.print(f"  block {number}: {len(block.entries)} entries, {held}")
    return ExitCode.DONE


def show_sweep(
    recipe: str,
    *,
    out: Path,
    selector: str,
    seed: int | None,
    adaptive: Adaptive | None = None,
    as_json: bool,
) -> ExitCode:
    """Run a sweep under the eyes of a terminal or a log, and print what it came to."""
    chooser = None if adaptive is None else adaptive.chooser()
    loaded = load_recipe(find_recipe(recipe), seed=seed)
    errors = console_on(sys.stderr)
    observer = LivePanel(errors) if errors.is_terminal and not as_json else PlainLines(errors)
    try:
        with stop_on_signals() as stop_requested, observer:
            device = open_device(selector, seed=loaded.recipe.seed)
            try:
                ended = run_sweep(
                    loaded,
                    device,
                    out,
                    observer=observer,
                    stop_requested=stop_requested,
                    chooser=chooser,
                )
            finally:
                device.close()
    except KeyboardInterrupt as order:
        raise StoppedAtOnce(
            "interrupted twice: stopped at once",
            hint="Nothing that was finished is lost: the same command goes on from here.",
        ) from order
    effects = temperature_effects(read_measurements(out, run_id=ended.run_id))
    # A round that was cut short has not been looked at yet.
    chosen = None if chooser is None or ended.exit_code else chooser.chosen
    if as_json:
        print_json(
            {
                **_sweep_document(ended),
                "temperature_effects": effect_documents(effects),
                "adaptive": chosen_document(chosen),
            }
        )
    else:
        console = console_on(sys.stdout)
        _print_tables(console, out, run_id=ended.run_id, every_row=False)
        for line in chosen_lines(chosen):
            console.print(line, soft_wrap=True)
        options = () if adaptive is None else adaptive.options
        lines = summary_lines(ended, recipe=recipe, selector=selector, seed=seed, options=options)
        for line in lines:
            console.print(line, soft_wrap=True)
        for line in effect_lines(effects):
            console.print(line, soft_wrap=True)
    return ended.exit_code


def show_dataset(path: Path, *, every_row: bool, as_json: bool) -> ExitCode:
    """Print the table of every run that a dataset holds."""
    runs = read_runs(path)
    _refuse_nameless(path, {run.run_id for run in runs})
    imported = {
        run.run_id: imported_summary(table, run)
        for run in runs
        if is_imported(table := read_measurements(path, run_id=run.run_id))
    }
    measured = [run for run in runs if run.run_id not in imported]
    if as_json:
        lines = [asdict(line) for run in measured for line in _lines(path, run.run_id)]
        effects = [
            each
            for run in measured
            for each in temperature_effects(read_measurements(path, run_id=run.run_id))
        ]
        print_json(
            {
                "out": str(path),
                "runs": [run.run_id for run in runs],
                "steps": lines,
                "imported": [asdict(summary) for summary in imported.values()],
                "temperature_effects": effect_documents(effects),
            }
        )
        return ExitCode.DONE
    console = console_on(sys.stdout)
    for run in runs:
        console.print(
            f"run {run.run_id}: {run.recipe['name']} on {run.device.name}", soft_wrap=True
        )
        if run.run_id in imported:
            console.print(summary_table(imported[run.run_id]))
            continue
        _print_tables(console, path, run_id=run.run_id, every_row=every_row)
        for line in effect_lines(temperature_effects(read_measurements(path, run_id=run.run_id))):
            console.print(line, soft_wrap=True)
    return ExitCode.DONE


def _refuse_nameless(path: Path, known: set[str]) -> None:
    if nameless := sorted(runs_with_rows(path) - known):
        raise DatasetError(
            f"{path}: the record of run {nameless[0]} is missing: run-{nameless[0]}.json",
            hint="The sweep command that measured it writes it anew, and measures nothing again.",
        )


def _sweep_document(ended: SweepEnded) -> dict[str, Any]:
    return {
        "out": str(ended.out),
        "run_id": ended.run_id,
        "num_points": ended.num_points,
        "num_measured": ended.num_measured,
        "num_skipped": ended.num_skipped,
        "statuses": ended.statuses,
        "overhead_fraction": ended.overhead_fraction,
        "wall_seconds": ended.wall_seconds,
        "sentinel_drift_fraction": ended.sentinel_drift_fraction,
        "sentinel_spread_fraction": ended.sentinel_spread_fraction,
        "interrupted": ended.interrupted,
        "lost": ended.lost,
    }


def _print_tables(console: Console, path: Path, *, run_id: str, every_row: bool) -> None:
    lines = _lines(path, run_id)
    for each in tables(lines, num_rows_max=None if every_row else _NUM_ROWS_SHOWN):
        console.print(each)


def _lines(path: Path, run_id: str) -> tuple[Any, ...]:
    (run,) = (each for each in read_runs(path) if each.run_id == run_id)
    table: pa.Table = read_measurements(path, run_id=run_id)
    return step_lines(table, run.notes.get("ceilings", {}))
