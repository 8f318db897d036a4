"""What moeprof's own expert kernels are held to on a GPU, and whether a bench shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from moeprof.bench.result import RowStatus, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from moeprof.bench.result import BenchPoint, BenchReport, BenchRow

# moeprof's kernels, the one that is held to the targets first.
OURS: Final = ("moeprof", "stream", "wgmma")
BASELINE: Final = "torch-grouped"
_LARGE_BYTES: Final = 150e6
_MEDIUM_BYTES: Final = 30e6
_LARGE_FRACTION: Final = 0.92
_MEDIUM_FRACTION: Final = 0.80
_MEAN_FRACTION: Final = 0.90
_SMALL_BATCH: Final = 16
_SPEEDUP: Final = 1.5


class Held(StrEnum):
    """Whether a target was met."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """One target: what is wanted, what the worst point (or the mean) came to, and where.

    `num_points` of `num_wanted` were measured; a target passes only where all were.
    """

    name: str
    wanted: str
    held: Held
    achieved: float | None
    where: str | None
    num_points: int
    num_wanted: int


@dataclass(frozen=True, slots=True)
class _Figure:
    """One point's figure; `achieved` is None where it was not measured."""

    where: str
    achieved: float | None
    is_met: bool


def subject_of(report: BenchReport) -> str | None:
    """Return which of moeprof's kernels was timed and is held to the targets, None: none was."""
    timed = {row.kernel for point in report.points for row in point.rows if row.latency is not None}
    return next((name for name in OURS if name in timed), None)


def targets(report: BenchReport, *, subject: str | None = None) -> tuple[Target, ...]:
    """Judge a bench; `subject` is the kernel that is held to the targets, None: moeprof's own."""
    name = subject or subject_of(report) or OURS[0]
    rivals = [point for point in report.points if _takes(point, name)]
    small = [point for point in rivals if point.workload.batch_size <= _SMALL_BATCH]
    large = [point for point in rivals if point.touched_bytes >= _LARGE_BYTES]
    medium = [p for p in rivals if _MEDIUM_BYTES <= p.touched_bytes < _LARGE_BYTES]
    fractions = f"{name}: bandwidth over the read-only ceiling"
    left_out = len(report.left_out)
    return (
        _worst(
            f"{fractions}, 150 MB and more",
            f"at least {_LARGE_FRACTION:.0%}",
            _fractions(large, name, _LARGE_FRACTION),
            left_out,
        ),
        _worst(
            f"{fractions}, 30 to 150 MB",
            f"at least {_MEDIUM_FRACTION:.0%}",
            _fractions(medium, name, _MEDIUM_FRACTION),
            left_out,
        ),
        _mean(f"{fractions}, geometric mean", _fractions(rivals, name, 0.0), left_out),
        _worst(
            f"{name} over {BASELINE}, B up to {_SMALL_BATCH}",
            f"at least {_SPEEDUP} times as fast",
            _speedups(small, name),
            left_out,
        ),
        _worst(
            f"{name} over the fastest other, B up to {_SMALL_BATCH}",
            "never slower",
            _against_best(small, name),
            left_out,
        ),
        _possible(report),
    )


def _takes(point: BenchPoint, name: str) -> bool:
    row = _row(point, name)
    return row is not None and row.status is not RowStatus.UNSUPPORTED


def _row(point: BenchPoint, name: str) -> BenchRow | None:
    return next((row for row in point.rows if row.kernel == name), None)


def _where(point: BenchPoint) -> str:
    workload = point.workload
    return f"{workload.model} {workload.weight_dtype} B={workload.batch_size}"


def _fractions(points: Iterable[BenchPoint], name: str, least: float) -> Iterator[_Figure]:
    for point in points:
        row = _row(point, name)
        interval = None if row is None else row.bandwidth_fraction
        # A datasheet's peak is no ceiling that was measured.
        if interval is None or point.ceiling is None or point.ceiling.source == "datasheet":
            yield _Figure(_where(point), None, is_met=False)
        else:
            yield _Figure(_where(point), interval.estimate, interval.estimate >= least)


def _speedups(points: Iterable[BenchPoint], name: str) -> Iterator[_Figure]:
    for point in points:
        if not _takes(point, BASELINE):
            continue  # torch has no kernel for this dtype
        found = point.comparison(BASELINE, name)
        speedup = None if found is None else found.ratio.estimate
        yield _Figure(_where(point), speedup, speedup is not None and speedup >= _SPEEDUP)


def _against_best(points: Iterable[BenchPoint], name: str) -> Iterator[_Figure]:
    for point in points:
        others = [each for each in point.comparisons if each.kernel == name]
        others = [each for each in others if each.other not in {*OURS, name}]
        row = _row(point, name)
        if not others:
            if row is None or row.latency is None:
                yield _Figure(_where(point), None, is_met=False)
            continue  # nobody to lose against
        closest = max(others, key=lambda each: each.ratio.estimate)
        slower = any(each.verdict is Verdict.SLOWER for each in others)
        where = f"{_where(point)}, {closest.other}"
        yield _Figure(where, 1 / closest.ratio.estimate, not slower)


def _worst(name: str, wanted: str, figures: Iterable[_Figure], left_out: int) -> Target:
    found = list(figures)
    measured = [each for each in found if each.achieved is not None]
    held = _held(measured, len(found) + left_out)
    worst = min(measured, key=lambda each: (each.is_met, each.achieved or 0.0), default=None)
    return Target(
        name=name,
        wanted=wanted,
        held=held,
        achieved=None if worst is None else worst.achieved,
        where=None if worst is None else worst.where,
        num_points=len(measured),
        num_wanted=len(found) + left_out,
    )


def _held(measured: Sequence[_Figure], num_wanted: int) -> Held:
    if not all(each.is_met for each in measured):
        return Held.FAIL
    return Held.PASS if measured and len(measured) == num_wanted else Held.NOT_MEASURED


def _mean(name: str, figures: Iterable[_Figure], left_out: int) -> Target:
    found = list(figures)
    values = [each.achieved for each in found if each.achieved is not None]
    mean = math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None
    num_wanted = len(found) + left_out
    held = Held.NOT_MEASURED
    if mean is not None and len(values) == num_wanted:
        held = Held.PASS if mean >= _MEAN_FRACTION else Held.FAIL
    return Target(name, f"at least {_MEAN_FRACTION:.0%}", held, mean, None, len(values), num_wanted)


def _possible(report: BenchReport) -> Target:
    figures = [
        _Figure(
            f"{_where(point)}, {row.kernel}",
            row.bandwidth_fraction.estimate,
            row.status is not RowStatus.IMPOSSIBLE,
        )
        for point in report.points
        for row in point.rows
        if row.bandwidth_fraction is not None and row.l2_state == "cold"
    ]
    failed = [each for each in figures if not each.is_met]
    highest = max(failed or figures, key=lambda each: each.achieved or 0.0, default=None)
    return Target(
        name="all kernels: bandwidth over the ceiling",
        wanted="none above 102%",
        held=_held(figures, len(figures)),
        achieved=None if highest is None else highest.achieved,
        where=None if highest is None else highest.where,
        num_points=len(figures),
        num_wanted=len(figures),
    )
