"""The files of a bench: JSON with every sample, CSV, Parquet, Markdown, and a picture."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Final

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from moeprof.bench.document import document_of, table_of
from moeprof.bench.targets import targets
from moeprof.dataset.files import replace_file
from moeprof.errors import UsageError
from moeprof.report.kernels_bench_grid import LEGEND, grids, target_cells
from moeprof.report.routes_drawing import as_svg, can_draw, drawing, figure_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from moeprof.bench.result import BenchReport
    from moeprof.record import Interval

DOCUMENT_NAME: Final = "bench.json"
SUMMARY_NAME: Final = "bench.md"
PICTURE_NAME: Final = "bench.svg"


def write_document(out: Path, report: BenchReport) -> None:
    """Write the JSON alone, as after every point, so that a killed bench loses one point.

    Raises UsageError.
    """
    text = json.dumps(document_of(report), indent=1, allow_nan=False)
    _write(out / DOCUMENT_NAME, f"{text}\n".encode())


def write_bench(out: Path, report: BenchReport) -> str:
    """Write all files to a folder that exists, and return a line that says so.

    Raises UsageError.
    """
    write_document(out, report)
    table = table_of(report)
    as_csv, as_parquet = BytesIO(), BytesIO()
    pa_csv.write_csv(table, as_csv)
    pq.write_table(table, as_parquet)
    files = {
        "bench.csv": as_csv.getvalue(),
        "bench.parquet": as_parquet.getvalue(),
        SUMMARY_NAME: "\n".join(markdown_lines(report)).encode(),
    }
    if can_draw() and (picture := draw_bench(report)) is not None:
        files[PICTURE_NAME] = picture
    for name, content in files.items():
        _write(out / name, content)
    return f"written: {out}: {', '.join((DOCUMENT_NAME, *files))}"


def markdown_lines(report: BenchReport) -> Iterator[str]:
    """Yield the grids and the targets as Markdown."""
    yield f"# Expert kernels on {report.device.name}"
    yield ""
    yield LEGEND
    for grid in grids(report):
        yield from ("", f"## {grid.title}", "")
        yield from _markdown_table(grid.columns, grid.cells)
        yield ""
        yield from (f"- {note}" for note in grid.notes)
    if report.left_out:
        yield from ("", f"{len(report.left_out)} points were left out: the time was spent.")
    if report.lost is not None:
        yield from ("", f"The device was lost: {report.lost}")
    yield from ("", "## Targets", "")
    columns = ("", "target", "wanted", "achieved", "where", "points")
    yield from _markdown_table(columns, target_cells(targets(report)))
    yield ""


def draw_bench(report: BenchReport) -> bytes | None:
    """Return a picture as SVG: share of the ceiling over touched bytes, a colour per kernel.

    None where no share is known.
    """
    series: dict[str, list[tuple[float, Interval]]] = {}
    for point in report.points:
        for row in point.rows:
            if row.bandwidth_fraction is not None and row.l2_state == "cold":
                at = (point.touched_bytes / 1e6, row.bandwidth_fraction)
                series.setdefault(row.kernel, []).append(at)
    if not series:
        return None
    with drawing():
        figure, (axes,) = figure_of(
            1, f"Expert kernels on {report.device.name}", width=7.2, height=4.2
        )
        axes.axhline(100, color="black", linewidth=0.8, linestyle="--")
        for number, (kernel, places) in enumerate(series.items()):
            # Side by side, so that kernels that are alike do not hide each other.
            beside = 1 + 0.012 * (number - (len(series) - 1) / 2)
            shares = [share for _, share in places]
            axes.errorbar(
                [megabytes * beside for megabytes, _ in places],
                [100 * share.estimate for share in shares],
                yerr=[
                    [100 * (share.estimate - share.low) for share in shares],
                    [100 * (share.high - share.estimate) for share in shares],
                ],
                marker="o",
                markersize=3,
                linestyle="none",
                elinewidth=0.8,
                color=f"C{number % 10}",
                label=kernel,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.set_xlabel("touched, MB")
        axes.set_ylabel("share of the read ceiling, %")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
        return as_svg(figure)


def _markdown_table(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _markdown_row(columns)
    yield _markdown_row(["---"] * len(columns))
    for row in cells:
        yield _markdown_row(row)


def _markdown_row(cells: Sequence[str]) -> str:
    # An asterisk would begin italics, and a bar a cell.
    told = (cell.replace("*", "\\*").replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(told)} |"


def _write(path: Path, content: bytes) -> None:
    try:
        replace_file(path, content)
    except OSError as error:
        raise UsageError(
            f"--out {path}: cannot be written: {error.strerror}", hint="Choose another folder."
        ) from error
