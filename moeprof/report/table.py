"""The closing table of a sweep: one row per step, under a heading per device, model and kernel."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from moeprof.report import human

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from moeprof.report.results import StepLine

_STATUS_STYLE = {"ok": "green", "imprecise": "yellow", "temperature_not_reached": "yellow"}


def tables(lines: Sequence[StepLine], *, num_rows_max: int | None) -> Iterator[RenderableType]:
    """Yield a table per device, model, dtype and placement, and a line on what was left out."""
    shown = lines if num_rows_max is None else lines[:num_rows_max]
    for _, group in groupby(shown, key=_heading):
        yield _table(list(group))
    if len(shown) < len(lines):
        yield Text(f"… and {len(lines) - len(shown)} more rows: moeprof report DIR --all", "dim")


def _heading(line: StepLine) -> str:
    cold = f"L2 {line.l2_state}"
    parts = [line.model, line.weight_dtype, line.placement, cold, line.device_name]
    if line.tp_size > 1:
        parts.insert(2, f"TP {line.tp_size}")
    if line.source != "measured":
        parts.append(line.source.upper())
    return "  ·  ".join(parts)


def _table(lines: list[StepLine]) -> Table:
    held = any(line.hold_celsius is not None for line in lines)
    ranks = any(line.num_ranks > 1 for line in lines)
    table = Table(title=_heading(lines[0]), title_justify="left", title_style="bold", expand=False)
    if held:
        table.add_column("held", justify="right")
    table.add_column("kernel")
    table.add_column("routing")
    for title in ("batch", "active", "FLOPs", "latency", "interval", "energy", "roofline"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("status")
    # A rule under every single row would hide what belongs together.
    by_pattern = len({line.batch_size for line in lines}) > 1
    previous: tuple[object, ...] | None = None
    for line in lines:
        pattern = line.routing_pattern if by_pattern else None
        group = (line.hold_celsius, line.kernel, pattern)
        if previous is not None and group != previous:
            table.add_section()
        previous = group
        table.add_row(*_cells(line, held=held))
    if ranks:
        table.caption = (
            "latency, active: of the slowest rank; FLOPs, energy: all ranks with rows together"
        )
    return table


def _cells(line: StepLine, *, held: bool) -> Iterator[RenderableType]:
    if held:
        yield human.celsius(line.hold_celsius)
    yield line.kernel
    yield line.routing_pattern
    yield str(line.batch_size)
    yield str(line.num_active_experts)
    yield human.quantity(line.flops, "")
    yield human.seconds(line.latency_seconds)
    yield human.plus_minus(line.half_width_fraction)
    yield human.joules(line.energy_joules)
    yield human.percent(line.roofline_fraction)
    status = Text(line.status, _STATUS_STYLE.get(line.status, "red"))
    if line.throttled_fraction:
        status.append(f" throttled {human.percent(line.throttled_fraction)}", "yellow")
    if line.status_detail and line.latency_seconds is None:
        status.append(f": {line.status_detail}", "dim")
    yield status
