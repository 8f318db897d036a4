"""A whole sweep: open the dataset, measure what is left, say what it came to."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from moeprof.analysis.drift import sentinel_drift_fraction, sentinel_spread_fraction
from moeprof.conditioning.thermometer import read_die
from moeprof.dataset.read import read_measurements
from moeprof.dataset.store import RunWriter, open_run
from moeprof.errors import ConditioningError, DeviceLost
from moeprof.sweep.bench import Bench
from moeprof.sweep.case import rank_groups
from moeprof.sweep.describe import describe_run
from moeprof.sweep.events import SweepEnded, SweepStarted
from moeprof.sweep.kernels import open_kernels
from moeprof.sweep.loop import Loop
from moeprof.sweep.meter import Interrupted, Meter
from moeprof.sweep.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Kernel
    from moeprof.recipe.load import LoadedRecipe
    from moeprof.sweep.case import Case
    from moeprof.sweep.chosen import Chooser
    from moeprof.sweep.events import Observer


def _never() -> bool:
    return False


def run_sweep(
    loaded: LoadedRecipe,
    device: Device,
    out: Path,
    *,
    observer: Observer,
    stop_requested: Callable[[], bool] = _never,
    chooser: Chooser | None = None,
) -> SweepEnded:
    """Measure every point of a recipe that the dataset at `out` does not hold yet.

    With a `chooser`, only those that it chooses, round by round.

    Returns even where the device was lost or the user asked to stop: the end says so, and what
    was finished is written.

    Raises ConditioningError where no temperature can be held on this device, DatasetError where
    `out` cannot be read or written, RecipeError for an unknown kernel.
    """
    started_seconds = device.now()
    _refuse_impossible_holds(loaded, device)
    kernels = open_kernels(loaded, device)
    plan = make_plan(loaded, partial(_can_run, kernels, device, loaded.recipe.seed))
    record = describe_run(loaded, device, kernels)
    meter = Meter(device.now, stop_requested)
    bench = Bench(device, kernels, meter, loaded.recipe)
    with open_run(out, record) as writer:
        if writer.last_snapshot is not None:
            # A simulated device takes its time line over from the run that was killed.
            spent_seconds = device.now() - started_seconds
            bench.restore(writer.last_snapshot)
            started_seconds = device.now() - spent_seconds
        loop = Loop(plan, bench, writer, observer)
        observer.started(
            SweepStarted(
                recipe_name=loaded.recipe.name,
                description=loaded.recipe.description,
                out=out,
                run_id=record.run_id,
                device=device.identity,
                num_points=plan.num_points,
                num_finished=loop.num_skipped,
            )
        )
        lost: str | None = None
        interrupted = False
        try:
            _annotate(writer, bench)
            if chooser is None:
                loop.measure_all()
            else:
                chooser.begin(plan, device.identity, loaded.recipe.seed)
                while wanted := chooser.next_round(read_measurements(out, run_id=record.run_id)):
                    loop.measure_all(wanted)
        except Interrupted:
            interrupted = True
        except DeviceLost as error:
            lost = error.message
        if lost is None:
            _annotate(writer, bench)
    wall_seconds = device.now() - started_seconds
    table = read_measurements(out, run_id=record.run_id)
    roles, statuses = table["role"].to_pylist(), table["status"].to_pylist()
    counted = [status for role, status in zip(roles, statuses, strict=True) if role == "point"]
    ended = SweepEnded(
        out=out,
        run_id=record.run_id,
        num_points=plan.num_points,
        num_measured=loop.num_measured,
        num_skipped=loop.num_skipped,
        statuses={status: counted.count(status) for status in sorted(set(counted))},
        overhead_fraction=_overhead_fraction(meter, wall_seconds),
        wall_seconds=wall_seconds,
        sentinel_drift_fraction=sentinel_drift_fraction(table),
        sentinel_spread_fraction=sentinel_spread_fraction(table),
        interrupted=interrupted,
        lost=lost,
        spent_seconds=dict(meter.seconds),
    )
    observer.ended(ended)
    return ended


def _refuse_impossible_holds(loaded: LoadedRecipe, device: Device) -> None:
    holds = loaded.recipe.conditioning.hold_celsius
    if not holds:
        return
    state = read_die(device)
    if state.die_celsius is None:
        reason = state.absent.get("die_celsius", "it has no die temperature sensor")
        raise ConditioningError(
            f"{loaded.path}: conditioning.hold_celsius asks to hold {holds[0]:g} °C, but "
            f"{device.identity.name} gives no die temperature: {reason}",
            hint="Remove conditioning.hold_celsius, or choose a device that has a sensor.",
        )


def _can_run(kernels: dict[str, Kernel], device: Device, seed: int, case: Case) -> bool:
    groups = rank_groups(case, seed=seed)
    kernel = kernels[case.kernel]
    return any(kernel.refusal(group.workload, device.identity) is None for group in groups)


def _annotate(writer: RunWriter, bench: Bench) -> None:
    notes: dict[str, object] = {"ceilings": bench.ceilings(writer.run.notes.get("ceilings", {}))}
    if bench.warmed is not None:
        notes["warm_up"] = asdict(bench.warmed)
        notes["background"] = bench.background_note
    if bench.checks.notes:
        notes["checks"] = writer.run.notes.get("checks", {}) | bench.checks.notes
    writer.annotate(**notes)


def _overhead_fraction(meter: Meter, wall_seconds: float) -> float | None:
    if wall_seconds <= 0:
        return None
    return max(0.0, 1 - sum(meter.seconds.values()) / wall_seconds)
