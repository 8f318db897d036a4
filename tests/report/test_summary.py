from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moeprof.report.summary import summary_lines
from moeprof.sweep.events import SweepEnded

ENDED = SweepEnded(
    out=Path("my data"),
    run_id="abc",
    num_points=10,
    num_measured=4,
    num_skipped=5,
    statuses={"ok": 8, "imprecise": 1},
    overhead_fraction=0.031,
    wall_seconds=65.0,
    sentinel_drift_fraction=0.002,
    sentinel_spread_fraction=0.013,
    interrupted=True,
)


def words(ended: SweepEnded) -> str:
    return "\n".join(summary_lines(ended, recipe="r.toml", selector="cpu", seed=7))


def test_the_way_to_go_on_can_be_typed_as_it_stands() -> None:
    command = "moeprof sweep r.toml --out 'my data' --device cpu --seed 7"

    assert f"to go on from here: {command}" in words(ENDED)
    assert f"to go on from here: {command}" in words(replace(ENDED, interrupted=False, lost="gone"))


def test_what_is_left_is_counted() -> None:
    assert "4 points measured, 5 done before, 1 to go (8 ok, 1 imprecise)" in words(ENDED)


def test_a_finished_sweep_says_what_to_type_next() -> None:
    done = replace(ENDED, interrupted=False, num_measured=5)

    assert "next: moeprof report 'my data'" in words(done)
    assert "to go" not in words(done)


def test_a_busy_machine_is_told_by_its_wide_intervals() -> None:
    busy = replace(ENDED, statuses={"ok": 2, "imprecise": 3})

    assert "is something else running on this device?" in words(busy)
    assert "is something else running" not in words(ENDED)


def test_unknown_drift_is_said_and_not_zero() -> None:
    unknown = replace(ENDED, sentinel_drift_fraction=None, sentinel_spread_fraction=None)

    assert "drift is not known" in words(unknown)
