"""How seconds and watts follow the SM clock, learned from identical work at clocks that differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.grouping import group_medians
from moeprof.cost.thermal import ClockEffect, intensity_octaves

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Observed, Points
    from moeprof.cost.thermal import Thermal

_LEAST_SPREAD_FRACTION: Final = 0.005  # of clocks, about those usual for their work
_FEWEST_ROWS: Final = 4
_KNOTS_PER_OCTAVE: Final = 2
_LATENCY_EXPONENTS: Final = (0.0, 1.0)  # from bound by memory to bound by the clock
_MOST_WATTS_EXPONENT: Final = 3.0  # P ~ f V^2, and V rises with f at most in proportion


def typical_clock(clock_hertz: NDArray[np.float64], work: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the median clock of each row's work, [num_rows]; NaN where none of it has one."""
    usual = np.full(len(work), np.nan)
    known = clock_hertz > 0
    if known.any():
        codes, place = np.unique(work[known], return_inverse=True)
        medians = group_medians(place.ravel(), clock_hertz[known])
        where = np.minimum(np.searchsorted(codes, work), len(codes) - 1)
        usual = np.where(codes[where] == work, medians[where], np.nan)
    return usual


def clock_effect(
    points: Points, observed: Observed, work: NDArray[np.int64], thermal: Thermal
) -> ClockEffect | None:
    """Return how one GPU's costs follow its clock; None: no work was seen at clocks that differ.

    `work`, [num_points], numbers identical work. What `thermal` says of temperature at an unchanged
    clock is taken off first. Exponents are slopes of logarithms within the same work.
    """
    known = points.sm_clock_hertz > 0
    if known.sum() < _FEWEST_ROWS:
        return None
    some, work = points.take(known), work[known]
    usual = typical_clock(some.sm_clock_hertz, work)
    off = np.log(some.sm_clock_hertz / usual)
    if off.std() < _LEAST_SPREAD_FRACTION:
        return None
    seconds = np.log(observed.latency_seconds[known] / thermal.slowdown(some))
    plain = observed.average_watts[known] - thermal.leakage_watts(some)
    watts = np.log(np.where(plain > 0, plain, np.nan))
    octaves = intensity_octaves(some.occupancy.num_rows, some.occupancy.num_active)
    bins = np.rint(octaves * _KNOTS_PER_OCTAVE).astype(np.int64)
    knots, which = np.unique(bins, return_inverse=True)
    which = which.ravel()
    slow = -_exponents(off, seconds, work, which)
    hungry = _exponents(off, watts, work, which)
    # Where a hot die leaks more and runs slower, and the two were never seen apart, watts may fall
    # as the clock rises.
    told_apart = all(own.leakage_watts_per_celsius is not None for own in thermal.gpus)
    least = 0.0 if told_apart else -_MOST_WATTS_EXPONENT
    return ClockEffect(
        octaves=tuple((knots / _KNOTS_PER_OCTAVE).tolist()),
        sm_clock_hertz=tuple(group_medians(which, some.sm_clock_hertz).tolist()),
        latency_exponents=tuple(np.clip(_filled(slow), *_LATENCY_EXPONENTS).tolist()),
        watts_exponents=tuple(np.clip(_filled(hungry), least, _MOST_WATTS_EXPONENT).tolist()),
    )


def _exponents(
    off: NDArray[np.float64],
    values: NDArray[np.float64],
    work: NDArray[np.int64],
    which: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the slope of values over `off` within the same work, [num_knots]; NaN: not known."""
    num = int(which.max()) + 1
    known = np.isfinite(values)
    x, y, codes, knot = off[known], values[known], work[known], which[known]
    count = np.maximum(np.bincount(codes), 1)
    x = x - (np.bincount(codes, x) / count)[codes]
    y = y - (np.bincount(codes, y) / count)[codes]
    spread = np.bincount(knot, x * x, minlength=num)
    least = _LEAST_SPREAD_FRACTION**2 * np.bincount(knot, minlength=num)
    told = np.bincount(knot, x * y, minlength=num)
    return np.where(spread > least, told / np.where(spread > 0, spread, 1), np.nan)


def _filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values [num_knots] with gaps filled between neighbours; 0 where all is unknown."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.zeros(len(values))
    return np.interp(np.arange(len(values)), known, values[known])
