from __future__ import annotations

import io
import threading
from pathlib import Path

from rich.console import Console

from moeprof.device.protocol import DeviceIdentity
from moeprof.recipe.load import find_recipe, load_recipe
from moeprof.record import DeviceState, Interval, Outcome, Role, Status
from moeprof.report.lines import PlainLines
from moeprof.report.live import LivePanel
from moeprof.sweep.case import rank_groups
from moeprof.sweep.events import PointFinished, Progress, SweepStarted
from moeprof.sweep.plan import make_plan

PLAN = make_plan(load_recipe(find_recipe("ci-smoke")))
ENTRY = next(entry for entry in PLAN.blocks[0].entries if entry.role is Role.POINT)
GROUP = rank_groups(ENTRY.case, seed=1)[0]
STARTED = SweepStarted(
    recipe_name="ci [smoke]",
    description="",
    out=Path("out"),
    run_id="abc",
    device=DeviceIdentity(kind="sim:h200-sxm", name="a GPU", uuid="u"),
    num_points=10,
    num_finished=3,
)
PROGRESS = Progress(
    phase="measuring",
    entry=ENTRY,
    workload=GROUP.workload,
    state=DeviceState(at_seconds=1.0, die_celsius=41.0, sm_clock_hertz=1.98e9, watts=311.0),
    interval=Interval(2e-4, 1.98e-4, 2.02e-4, 0.95),
    remaining_seconds=90.0,
)


def test_the_panel_shows_point_interval_temperature_clock_and_time_left() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140, markup=False)

    with LivePanel(console) as panel:
        panel.started(STARTED)
        panel.progressed(PROGRESS)

    shown = screen.getvalue()
    held = f"{ENTRY.case.hold_celsius:.1f} °C"
    for words in ("3/10", "1 min 30 s left", "200 µs ±1.0 %", f"41.0 °C (set {held})", "311 W"):
        assert words in shown
    assert "1.98 GHz" in shown
    assert "ci [smoke]" in shown


def test_the_panel_keeps_what_the_next_event_leaves_out() -> None:
    screen = io.StringIO()
    panel = LivePanel(Console(file=screen, force_terminal=True, width=140))
    with panel:
        panel.started(STARTED)
        panel.progressed(PROGRESS)
        panel._drawn_at = float("-inf")
        screen.truncate(0)
        panel.progressed(Progress("measuring", entry=ENTRY, workload=GROUP.workload))

        assert "200 µs" in screen.getvalue()
        assert "311 W" in screen.getvalue()


def test_the_panel_has_no_thread_that_could_fall_into_a_sample() -> None:
    before = threading.active_count()
    with LivePanel(Console(file=io.StringIO(), force_terminal=True)) as panel:
        panel.started(STARTED)

        assert threading.active_count() == before


def test_plain_lines_tell_an_outcome_and_how_far_the_sweep_is() -> None:
    log = io.StringIO()
    lines = PlainLines(Console(file=log, width=200))
    lines.started(STARTED)
    lines.progressed(Progress("holding 40 °C"))
    lines.progressed(Progress("holding 40 °C"))

    lines.finished(
        PointFinished(ENTRY, GROUP.workload, 2, Outcome(Status.OUT_OF_MEMORY, "needs 9 GB"), 1.0)
    )

    assert "resuming: 3 of 10 points are done" in log.getvalue()
    assert log.getvalue().count("holding 40 °C") == 1
    assert "[5/10]" in log.getvalue()
    assert "out_of_memory: needs 9 GB" in log.getvalue()
