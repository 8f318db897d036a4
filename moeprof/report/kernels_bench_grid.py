"""A bench as grids of words: a row per batch size, a column per kernel, and why cells are empty."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from moeprof.bench.result import RowStatus, Verdict
from moeprof.report import human

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moeprof.bench.result import BenchPoint, BenchReport, BenchRow
    from moeprof.bench.targets import Target

LEGEND: Final = (
    "median, share of the read ceiling; * fastest, = cannot be told from the fastest (95 % of "
    "pairs), ! more than can be read"
)
_FAULTS: Final = (RowStatus.FAILED, RowStatus.OUT_OF_MEMORY, RowStatus.UNSUPPORTED)


@dataclass(frozen=True, slots=True)
class Grid:
    """One layer and dtype: `cells` has a row per batch size; `notes` say what is missing."""

    title: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def grids(report: BenchReport) -> Iterator[Grid]:
    """Yield a grid for every layer and dtype, in the bench's order."""

    def place(point: BenchPoint) -> tuple[str, str]:
        return point.workload.model, point.workload.weight_dtype

    for (model, dtype), group in groupby(report.points, key=place):
        yield _grid(f"{model}  ·  {dtype}  ·  {report.device.name}", list(group))


def point_words(point: BenchPoint) -> str:
    """Return what came out of one point, in one line."""
    timed = sorted(
        (row for row in point.rows if row.latency is not None),
        key=lambda row: row.latency.estimate if row.latency else 0.0,
    )
    told = [f"{row.kernel} {_timed(row)}" for row in timed]
    told += [f"{row.kernel} {row.status}" for row in point.rows if row.status in _FAULTS[:2]]
    workload = point.workload
    what = f"{workload.model} {workload.weight_dtype} B={workload.batch_size}"
    return f"{what}: {', '.join(told) or 'no kernel takes it'}"


def target_cells(found: Sequence[Target]) -> list[tuple[str, ...]]:
    """Return a row of words per target: verdict, name, what is wanted, achieved, where, points."""
    return [
        (
            each.held.value,
            each.name,
            each.wanted,
            human.ABSENT if each.achieved is None else _achieved(each),
            each.where or human.ABSENT,
            f"{each.num_points} of {each.num_wanted}",
        )
        for each in found
    ]


def _achieved(target: Target) -> str:
    value = target.achieved or 0.0
    return human.percent(value, digits=1) if "%" in target.wanted else f"{value:.2f} x"


def _grid(title: str, points: list[BenchPoint]) -> Grid:
    ran = [
        row.kernel
        for row in points[0].rows
        if any(_row(point, row.kernel).status not in _FAULTS for point in points)
    ]
    cells = [
        (
            str(point.workload.batch_size),
            str(point.workload.num_active_experts),
            human.quantity(point.touched_bytes, "B"),
            human.quantity(_ceiling(point), "B/s"),
            *(_cell(point, name) for name in ran),
        )
        for point in points
    ]
    return Grid(
        title=title,
        columns=("batch", "active", "touched", "ceiling", *ran),
        cells=tuple(cells),
        notes=tuple(_notes(points)),
    )


def _ceiling(point: BenchPoint) -> float | None:
    return None if point.ceiling is None else point.ceiling.bytes_per_second


def _row(point: BenchPoint, kernel: str) -> BenchRow:
    return next(row for row in point.rows if row.kernel == kernel)


def _cell(point: BenchPoint, kernel: str) -> str:
    row, fastest = _row(point, kernel), point.fastest
    if row.latency is None or fastest is None:
        return row.status.value
    mark = " "
    if row.status is RowStatus.IMPOSSIBLE:
        mark = "!"
    elif row is fastest:
        mark = "*"
    else:
        against = point.comparison(kernel, fastest.kernel)
        if against is not None and against.verdict is Verdict.UNDECIDED:
            mark = "="
    return f"{_timed(row)} {mark}".rstrip()


def _timed(row: BenchRow) -> str:
    fraction = row.bandwidth_fraction
    share = f" {human.percent(fraction.estimate)}" if fraction is not None else ""
    seconds = row.latency.estimate if row.latency else None
    return f"{human.seconds(seconds)}{share}"


def _notes(points: list[BenchPoint]) -> Iterator[str]:
    """Yield each reason once, with the kernels and batch sizes that it holds for."""
    sizes: dict[tuple[str, str], list[str]] = {}
    for point in points:
        for row in point.rows:
            if row.detail is not None:
                place = (row.kernel, f"{row.status.value}: {row.detail}")
                sizes.setdefault(place, []).append(str(point.workload.batch_size))
    for (kernel, reason), batches in sizes.items():
        where = "" if len(batches) == len(points) else f" at B={','.join(batches)}"
        yield f"{kernel}{where}: {reason}"
    sources = {point.ceiling.source for point in points if point.ceiling is not None}
    yield f"ceiling: {', '.join(sorted(sources)) or 'not known'}"
    warm = {row.kernel for point in points for row in point.rows if row.l2_state == "warm"}
    if warm:
        yield f"L2 warm, so that the ceiling says nothing: {', '.join(sorted(warm))}"
