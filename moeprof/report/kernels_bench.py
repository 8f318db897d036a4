"""What `moeprof kernels bench` shows: kernels side by side, watched, printed and kept."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, get_args

from rich.table import Table
from rich.text import Text

from moeprof.bench.document import document_of
from moeprof.bench.request import BenchRequest, layers_named
from moeprof.bench.result import RowStatus
from moeprof.bench.run import run_bench
from moeprof.bench.targets import Held, subject_of, targets
from moeprof.device.registry import open_device
from moeprof.errors import ExitCode, StoppedAtOnce, UsageError
from moeprof.kernel.protocol import L2State
from moeprof.recipe.batch_sizes import expand
from moeprof.report import human
from moeprof.report.consoles import console_on, print_json
from moeprof.report.interrupts import interrupt_on_term
from moeprof.report.kernels_bench_files import write_bench, write_document
from moeprof.report.kernels_bench_grid import LEGEND, Grid, grids, point_words, target_cells
from moeprof.report.routes_files import check_folder
from moeprof.workload.routing import parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from moeprof.bench.result import BenchPoint, BenchReport
    from moeprof.bench.run import BenchProgress
    from moeprof.bench.targets import Target
    from moeprof.workload.workload import Workload

_DTYPES: Final = ("bf16", "fp16", "fp32", "fp8_block")  # what weights are drawn in
_HELD_STYLE = {Held.PASS: "green", Held.FAIL: "red", Held.NOT_MEASURED: "yellow"}


def bench_request(  # noqa: PLR0913 - options of a command
    models: Sequence[str],
    *,
    tokens: str | None,
    dtypes: Sequence[str],
    kernels: Sequence[str],
    device: str,
    pattern: str = "uniform",
    seed: int = 0,
    rounds: int = 30,
    l2: str = "cold",
    seconds: float | None = None,
) -> BenchRequest:
    """Return what is asked for, from the command line's words; nothing named: what fits the device.

    Raises:
        UsageError: a word means nothing; the message has the words that would.
        WorkloadError, CatalogueError: there is no such model or pattern.

    """
    for dtype in dtypes:
        _check_word(dtype, _DTYPES, "--dtype")
    _check_word(l2, get_args(L2State), "--l2")
    return BenchRequest(
        layers=layers_named(tuple(models)),
        batch_sizes=() if tokens is None else _batch_sizes(tokens),
        dtypes=tuple(dtypes),
        kernels=tuple(dict.fromkeys(kernels)),
        device=device,
        pattern=parse(pattern),
        seed=seed,
        rounds=rounds,
        l2_state="warm" if l2 == "warm" else "cold",
        seconds_max=seconds,
    )


def show_bench(request: BenchRequest, *, out: Path | None, as_json: bool) -> ExitCode:
    """Time kernels side by side under the eyes of the user, and print what came out.

    Exits with DEVICE where the device was lost, and what was measured before is kept, or where it
    runs none of the kernels; with GATE_FAILED where all that it runs are wrong.

    Raises:
        UsageError: `out` cannot be written.
        DeviceUnavailable: there is no such device.
        WorkloadError: a kernel is not known, or the pattern is impossible for a layer.
        StoppedAtOnce: the user has stopped it; `out` has every finished point.

    """
    if out is not None:
        check_folder(out)
    try:
        with interrupt_on_term():
            device = open_device(request.device, seed=request.seed)
            try:
                report = run_bench(
                    request, device, on_progress=telling(console_on(sys.stderr), out)
                )
            finally:
                device.close()
    except KeyboardInterrupt as order:
        some = out is not None and (out / "bench.json").exists()
        kept = f"finished points are in {out}" if some else "nothing was kept"
        raise StoppedAtOnce(f"interrupted: {kept}", hint="Run it anew.") from order
    written = None if out is None else write_bench(out, report)
    if as_json:
        print_json(document_of(report))
    else:
        print_bench(console_on(sys.stdout), report)
    if written is not None:
        console_on(sys.stderr).print(written, soft_wrap=True)
    return _exit_code(report)


def _exit_code(report: BenchReport) -> ExitCode:
    """Return DONE where something was timed; else whether kernels were wrong or the device."""
    rows = [row for point in report.points for row in point.rows]
    if report.lost is None and any(row.latency is not None for row in rows):
        return ExitCode.DONE
    wrong = report.lost is None and any(row.status is RowStatus.FAILED for row in rows)
    return ExitCode.GATE_FAILED if wrong else ExitCode.DEVICE


def telling(console: Console, out: Path | None) -> BenchProgress:
    """Return what says each finished point in a line, and keeps it in `out`."""

    def hear(report: BenchReport, workload: Workload | None, point: BenchPoint | None) -> None:
        del workload
        if point is None:
            return
        done = len(report.points)
        words = f"[{done}/{done + len(report.left_out)}] {point_words(point)}"
        console.print(words, soft_wrap=True)
        if out is not None:
            write_document(out, report)

    return hear


def print_bench(console: Console, report: BenchReport) -> None:
    """Print the grids, their notes, and the targets where one of moeprof's kernels was timed."""
    for grid in grids(report):
        console.print(_table(grid))
        for note in grid.notes:
            console.print(Text(f"  {note}", "dim"), soft_wrap=True)
    for line in _closing(report):
        console.print(line, soft_wrap=True)
    if subject_of(report) is not None:
        console.print(targets_table(targets(report)))


def targets_table(found: Sequence[Target]) -> Table:
    """Return the targets with their verdicts."""
    table = Table(title="targets", title_justify="left", title_style="bold")
    for column in ("", "target", "wanted", "achieved", "where", "points"):
        table.add_column(column)
    for target, (held, *cells) in zip(found, target_cells(found), strict=True):
        table.add_row(Text(held, _HELD_STYLE[target.held]), *cells)
    return table


def _closing(report: BenchReport) -> Iterator[str]:
    yield LEGEND
    if report.no_ceiling_reason is not None:
        yield f"no read-only ceiling: {report.no_ceiling_reason}"
    if report.left_out:
        yield f"{len(report.left_out)} points were left out: the time was spent"
    if report.lost is not None:
        yield f"the device was lost: {report.lost}"
    yield f"ended after {human.duration(report.wall_seconds)}"


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title, title_justify="left", title_style="bold")
    for column in grid.columns:
        table.add_column(column, justify="right", no_wrap=True)
    for cells in grid.cells:
        table.add_row(*(Text(cell, "bold" if cell.endswith("*") else "") for cell in cells))
    return table


def _batch_sizes(tokens: str) -> tuple[int, ...]:
    try:
        return expand([part for part in tokens.split(",") if part.strip()])
    except ValueError as error:
        raise UsageError(f"--tokens {error}", hint="Give --tokens 1..64 or 1,2,4,8.") from error


def _check_word(word: str, known: Sequence[str], option: str) -> None:
    if word not in known:
        raise UsageError(f"{option} must be one of {', '.join(known)}, got {word!r}")
