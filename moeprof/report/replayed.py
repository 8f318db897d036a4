"""What `moeprof selfcheck --replay` shows of a recorded trace: its sensors, found and not found."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from moeprof.errors import ExitCode, UsageError
from moeprof.measure.sensor.replay import replay
from moeprof.report import human
from moeprof.report.consoles import console_on, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from moeprof.measure.sensor.figures import SensorFigures, SensorReport

_TIMES = ("period", "window", "lag")


def show_replay(trace_csv: Path | None, load_csv: Path | None, *, as_json: bool) -> ExitCode:
    """Find out about the sensors of a recorded trace, and print what was found.

    Raises UsageError for a load without a trace, InputError for files that are none.
    """
    if trace_csv is None:
        raise UsageError(
            f"--load {load_csv}: a load belongs to a recorded trace",
            hint="Give the trace with --replay.",
        )
    report = replay(trace_csv, load_csv)
    if as_json:
        print_json({"trace": str(trace_csv), "load": load_csv and str(load_csv), **asdict(report)})
        return ExitCode.DONE
    console = console_on(sys.stdout)
    console.print(_table(report, title=str(trace_csv)))
    for line in _absences(report):
        console.print(line, soft_wrap=True)
    return ExitCode.DONE


def _table(report: SensorReport, *, title: str) -> Table:
    phases = "" if report.num_phases is None else f", {report.num_phases} phases of load"
    table = Table(title=f"{title}: {human.duration(report.seconds)}{phases}", title_justify="left")
    table.add_column("sensor", no_wrap=True)
    for name in ("reads", "updates", "period", "window", "lag", "under load", "per launch"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in report.sensors:
        table.add_row(
            each.name,
            str(each.num_reads),
            str(each.num_updates),
            *(_with_error(each, name) for name in _TIMES),
            human.watts(each.load_watts),
            human.joules(each.launch_joules),
        )
    return table


def _with_error(figures: SensorFigures, name: str) -> str:
    value = getattr(figures, f"{name}_seconds")
    if value is None:
        return human.ABSENT
    error = getattr(figures, f"{name}_error_seconds")
    return f"{human.seconds(value)} ± {human.seconds(error)}"


def _absences(report: SensorReport) -> Iterator[str]:
    """Yield a line for every reason why something is not told, with all that is missing for it."""
    for each in report.sensors:
        for reason in dict.fromkeys(each.absent.values()):
            names = [name for name, why in each.absent.items() if why == reason]
            yield f"{each.name}: no {', '.join(names)}: {reason}"
