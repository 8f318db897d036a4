"""Temperature's effects learned from rows of the same work at temperatures that differ."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import stdtrit

from moeprof.analysis.block_slope import CONFIDENCE, BlockRows, BlockSlope, block_slope
from moeprof.cost.clock_fit import clock_effect, typical_clock
from moeprof.cost.contexts import kernel_names
from moeprof.cost.grouping import group_codes, work_columns
from moeprof.cost.held_rows import HeldRows, block_design, guessed_held_rows, split_blocks
from moeprof.cost.thermal import GPUThermal, KernelEffect, Thermal
from moeprof.record import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Observed, Points

COVERAGE: Final = 0.9  # of the intervals
_LEAST_SPAN_CELSIUS: Final = 5.0
_FEWEST_ROWS: Final = 4
# About a point's usual clock: power goes with up to the third power of it, a degree's leakage is
# less than a hundredth of power.
_STEADY_FRACTION: Final = 0.002
# Of the power limit: from here on, power cannot rise with leakage. Governors leave some slack.
_AT_LIMIT_FRACTION: Final = 0.95
# Leakage grows exponentially: from so many on, a bend can be told, and the slope is the middle's.
_FEWEST_BLOCKS_TO_BEND: Final = 8
_FEWEST_LEVELS_TO_BEND: Final = 3
_LEAST_EFOLD_CELSIUS: Final = 14.0  # leakage of silicon doubles in 10 C at the fastest
# Of the power of a working card, what is spent per byte and FLOP and so falls with its speed; the
# rest is spent per second. Public H100 and H200 figures (120 W at full clocks without work, 140 to
# 300 W in decode, arXiv 2605.11999) lie in between.
_WORK_FRACTION: Final = 0.5
_WORK_FRACTION_ERROR: Final = 0.15
_USUAL_ERROR_FRACTION: Final = 0.01
_LEAST_ERROR_FRACTION: Final = 1e-4
_STANDARD_ERRORS: Final = 1.959964
_MANY_DEGREES: Final = 1e6  # from here on t is normal


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """One GPU's rows that share their work with rows at other temperatures."""

    points: Points
    observed: Observed
    held: HeldRows
    work: NDArray[np.int64]
    reference_celsius: float

    def take(self, index: NDArray[np.bool_]) -> _Rows:
        return _Rows(
            self.points.take(index),
            self.observed.take(index),
            self.held.take(index),
            self.work[index],
            self.reference_celsius,
        )


def fit_thermal(points: Points, observed: Observed, held: HeldRows | None = None) -> Thermal | None:
    """Return what temperature does; None: no work was seen at temperatures 5 C apart.

    Only differences between rows of identical work count. Without `held`, blocks are guessed from
    the die temperatures, and what drifts with time cannot be told from them.
    """
    blocks = guessed_held_rows(points) if held is None else held
    found = [
        _gpu_thermal(points.gpu.names[code], rows)
        for code in np.unique(points.gpu.codes).tolist()
        if (rows := _comparable(points, observed, blocks, points.gpu.codes == code)) is not None
    ]
    return Thermal(tuple(found)) if found else None


def _comparable(
    points: Points, observed: Observed, held: HeldRows, wanted: NDArray[np.bool_]
) -> _Rows | None:
    kept = wanted & np.isfinite(held.celsius) & (observed.latency_seconds > 0)
    if kept.sum() < _FEWEST_ROWS:
        return None
    index = np.flatnonzero(kept)
    work = group_codes([*work_columns(points), held.runs], index)
    celsius = held.celsius[index]
    lowest = np.full(int(work.max()) + 1, np.inf)
    highest = np.full(len(lowest), -np.inf)
    np.minimum.at(lowest, work, celsius)
    np.maximum.at(highest, work, celsius)
    spread = (highest - lowest >= _LEAST_SPAN_CELSIUS)[work]
    if spread.sum() < _FEWEST_ROWS:
        return None
    index, celsius = index[spread], celsius[spread]
    own = held.take(index)
    own = replace(own, blocks=split_blocks(own.blocks, celsius))
    return _Rows(points.take(index), observed.take(index), own, work[spread], 0.0)


def _gpu_thermal(gpu: str, rows: _Rows) -> GPUThermal:
    celsius = rows.held.celsius
    reference = _reference_celsius(rows)
    rows = replace(rows, reference_celsius=reference)
    steady = rows.take(_steady(rows))
    kernels = _kernel_effects(steady)
    free = steady.take(_below_limit(steady))
    watts = _bent(free, first=0)
    leakage = None if watts is None else _leakage(free, watts)
    limits = rows.points.power_limit_watts
    found = GPUThermal(
        gpu=gpu,
        reference_celsius=reference,
        lowest_celsius=float(celsius.min()),
        highest_celsius=float(celsius.max()),
        power_limit_watts=float(np.nanmedian(limits)) if np.isfinite(limits).any() else None,
        leakage_watts_per_celsius=leakage,
        leakage_efold_celsius=None if leakage is None else _efold(free, leakage),
        watts_per_celsius=None if watts is None else _at_coverage(watts, _typical_watts(free)),
        sm_clock_hertz_per_celsius=_clock_slope(rows),
        kernels=kernels,
        clock=None,
    )
    effect = clock_effect(rows.points, rows.observed, rows.work, Thermal((found,)))
    return replace(found, clock=effect)


def _reference_celsius(rows: _Rows) -> float:
    """Return the mean over blocks: there a slope is known best, and a bend does not change it."""
    steady = rows.take(_steady(rows))
    free = steady.take(_below_limit(steady))
    some = next(each for each in (free, steady, rows) if len(each.work))
    _, blocks = np.unique(some.held.blocks, return_inverse=True)
    means = np.bincount(blocks.ravel(), some.held.celsius) / np.bincount(blocks.ravel())
    return float(means.mean())


def _steady(rows: _Rows) -> NDArray[np.bool_]:
    """Settled rows at the usual clock of their work, or whose clock is not known."""
    clock = rows.points.sm_clock_hertz
    usual = typical_clock(clock, rows.work)
    off = np.abs(clock / usual - 1)
    return rows.held.settled & ~(off > _STEADY_FRACTION)


def _below_limit(rows: _Rows) -> NDArray[np.bool_]:
    watts, limit = rows.observed.average_watts, rows.points.power_limit_watts
    return np.isfinite(watts) & (watts > 0) & ~(watts >= _AT_LIMIT_FRACTION * limit)


def _clock_slope(rows: _Rows) -> Interval | None:
    known = rows.take(rows.points.sm_clock_hertz > 0)
    clock = known.points.sm_clock_hertz
    if len(clock) < _FEWEST_ROWS or np.ptp(clock) == 0:
        return None
    usual = float(np.median(clock))
    found = _slope(known, clock / usual, np.full(len(clock), _LEAST_ERROR_FRACTION))
    return None if found is None else _at_coverage(found, usual)


def _kernel_effects(rows: _Rows) -> tuple[KernelEffect, ...]:
    names = np.array(kernel_names(rows.points), dtype=str)
    effects = []
    for name in np.unique(names).tolist():
        some = rows.take(names == name)
        seconds = some.observed.latency_seconds
        found = _slope(some, np.log(seconds), _latency_errors(some.observed))
        if found is not None:
            effects.append(KernelEffect(name, _at_coverage(found, 1.0)))
    return tuple(effects)


def _leakage(rows: _Rows, watts: BlockSlope) -> Interval:
    """Return the slope of watts at unchanged speed: a slower card does less work per second.

    The errors of the two slopes add up, with degrees of freedom by Welch (Biometrika 34, 1947) and
    Satterthwaite (Biometrics Bulletin 2, 1946).
    """
    typical = _typical_watts(rows)
    seconds = rows.observed.latency_seconds
    slower = _slope(rows, np.log(seconds), _latency_errors(rows.observed))
    if slower is None:
        return _at_coverage(watts, typical)
    errors = np.array([_error(watts), _WORK_FRACTION * _error(slower)])
    doubt = _WORK_FRACTION_ERROR * abs(slower.interval.estimate)
    variance = float(np.sum(errors**2)) + doubt**2
    shares = errors**4 / np.array([watts.num_degrees, slower.num_degrees])
    degrees = variance**2 / float(shares.sum()) if shares.any() else math.inf
    slope = (watts.interval.estimate + _WORK_FRACTION * slower.interval.estimate) * typical
    half = math.sqrt(variance) * _quantile(degrees, COVERAGE) * typical
    return Interval(slope, slope - half, slope + half, COVERAGE)


def _efold(rows: _Rows, leakage: Interval) -> float | None:
    """Return the degrees in which leakage grows e times, from a bend that is clearly upwards."""
    bend = _bent(rows, first=1)
    if bend is None or leakage.estimate <= 0:
        return None
    curvature = _at_coverage(bend, _typical_watts(rows))
    # What is predicted far from the reference hangs on it: twice the half-width has to be clear.
    if 2 * curvature.low <= curvature.estimate:
        return None
    # s E (exp(x / E) - 1) = s x + s / (2 E) x^2 + ...
    return max(leakage.estimate / (2 * curvature.estimate), _LEAST_EFOLD_CELSIUS)


def _bent(rows: _Rows, *, first: int) -> BlockSlope | None:
    """Return the slope (0) or the bend (1) of relative watts; no bend where blocks are few."""
    typical = _typical_watts(rows)
    values = rows.observed.average_watts / typical
    levels = np.unique(np.rint(rows.held.celsius / 2))
    bends = (
        len(np.unique(rows.held.blocks)) >= _FEWEST_BLOCKS_TO_BEND
        and len(levels) >= _FEWEST_LEVELS_TO_BEND
    )
    if first and not bends:
        return None
    return _slope(rows, values, values * _USUAL_ERROR_FRACTION, bends=bends, first=first)


def _typical_watts(rows: _Rows) -> float:
    return float(rows.observed.average_watts.mean()) if len(rows.work) else 0.0


def _slope(
    rows: _Rows,
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    *,
    bends: bool = False,
    first: int = 0,
) -> BlockSlope | None:
    """Return the slope of values, [num_rows], over temperature; None: it cannot be told."""
    if len(values) < _FEWEST_ROWS:
        return None
    _, work = np.unique(rows.work, return_inverse=True)
    _, blocks = np.unique(rows.held.blocks, return_inverse=True)
    design = block_design(rows.held.celsius - rows.reference_celsius, rows.held, blocks.ravel())
    if np.ptp(design[:, 0]) < _LEAST_SPAN_CELSIUS:
        return None
    if bends:
        design = np.insert(design, 1, design[:, 0] ** 2, axis=1)
        design = np.concatenate([design[:, [first]], np.delete(design, first, axis=1)], axis=1)
    # A row known far better than most is still only as good as the point's return to its value.
    usual = np.maximum(errors, np.median(errors))
    return block_slope(BlockRows(values, usual, work.ravel(), blocks.ravel(), design))


def _latency_errors(observed: Observed) -> NDArray[np.float64]:
    """Return the standard errors of log seconds from the rows' 95 % intervals, [num_rows]."""
    low, high = observed.latency_seconds_ci_low, observed.latency_seconds_ci_high
    known = (low > 0) & (high >= low)
    errors = np.full(len(low), _USUAL_ERROR_FRACTION)
    errors[known] = np.log(high[known] / low[known]) / 2 / _STANDARD_ERRORS
    floored: NDArray[np.float64] = np.maximum(errors, _LEAST_ERROR_FRACTION)
    return floored


def _at_coverage(found: BlockSlope, factor: float) -> Interval:
    """Return a slope with its interval of 90 %, times a factor."""
    half = _error(found) * _quantile(found.num_degrees, COVERAGE) * factor
    slope = found.interval.estimate * factor
    return Interval(slope, slope - half, slope + half, COVERAGE)


def _error(found: BlockSlope) -> float:
    """Return the standard error behind a slope's 95 % interval."""
    half = (found.interval.high - found.interval.low) / 2
    return half / _quantile(found.num_degrees, CONFIDENCE)


def _quantile(degrees: float, coverage: float) -> float:
    return float(stdtrit(min(degrees, _MANY_DEGREES), (1 + coverage) / 2))
