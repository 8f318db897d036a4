"""When a sensor brought a new value, and how regularly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.measure.sensor.stream import Unclear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.measure.sensor.stream import SensorStream

NUM_UPDATES_MIN = 8
# Polled less often than this per update, neither moments nor missed updates can be told.
_POLLS_PER_UPDATE_MIN = 2.0
_NORMAL_QUANTILE = 1.96
# Gaps up to this many times a short gap are of one period; longer ones skip an unchanged value.
_ONE_PERIOD_RATIO = 1.5
_SHORT_QUANTILE = 0.1
_NUM_REFINEMENTS = 3
_CLOCK_STEP_SECONDS = 1e-6
# An update further from the rhythm than its polls allow, by this share of a period, breaks it.
_RHYTHM_FRACTION = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Updates:
    """New values, each between the polls `before_seconds` and `after_seconds`, all [num_updates].

    `at_seconds` is the best guess: the place in the sensor's rhythm, where it keeps one. The period
    has its 95 % half-width in `period_error_seconds`; all moments together may be off by up to
    `placing_error_seconds`, half the distance of two polls.
    """

    before_seconds: NDArray[np.float64]
    after_seconds: NDArray[np.float64]
    at_seconds: NDArray[np.float64]
    values: NDArray[np.float64]
    period_seconds: float
    period_error_seconds: float
    placing_error_seconds: float


def find_updates(stream: SensorStream) -> Updates | Unclear:
    """Return the updates of a stream, or why they cannot be told apart.

    The period is the slope of a straight line through the moments of change over their numbers, so
    polling jitter averages out; a gap of several periods counts as so many, so neither failed reads
    nor values that repeat by chance matter.
    """
    num_reads = len(stream.values)
    changed = np.flatnonzero(np.diff(stream.values) != 0) + 1
    if len(changed) < NUM_UPDATES_MIN:
        return Unclear(f"{stream.name}: only {len(changed)} changes in {num_reads} readings")
    before, after = stream.at_seconds[changed - 1], stream.at_seconds[changed]
    middle = (before + after) / 2
    gaps = np.diff(middle)
    short = float(np.quantile(gaps, _SHORT_QUANTILE))
    period = float(np.median(gaps[gaps <= _ONE_PERIOD_RATIO * short]))
    poll = float(np.median(np.diff(stream.at_seconds)))
    if period <= max(0.0, _POLLS_PER_UPDATE_MIN * poll):
        reason = f"it changes as fast as it was polled, every {1000 * poll:.3g} ms"
        return Unclear(f"{stream.name}: {reason}")
    weights = 1 / np.maximum(after - before, max(poll / 2, _CLOCK_STEP_SECONDS))
    for _ in range(_NUM_REFINEMENTS):
        steps = np.maximum(np.rint(gaps / period), 1)
        numbers = np.concatenate([[0.0], np.cumsum(steps)])
        period, start = (float(each) for each in np.polyfit(numbers, middle, 1, w=weights))
    rhythm = start + period * numbers
    within = np.clip(rhythm, before, after)
    off = np.abs(rhythm - within)
    is_regular = (
        float(np.median(off)) <= _RHYTHM_FRACTION * period
        and np.mean(off <= _RHYTHM_FRACTION * period) >= 1 - _SHORT_QUANTILE
    )
    deviation = float(np.std(middle - rhythm)) + poll / math.sqrt(12)
    spread = float(np.sqrt(np.sum((numbers - numbers.mean()) ** 2)))
    return Updates(
        before_seconds=before,
        after_seconds=after,
        at_seconds=within if is_regular else middle,
        values=stream.values[changed],
        period_seconds=period,
        period_error_seconds=_NORMAL_QUANTILE * deviation / spread,
        placing_error_seconds=float(np.median(after - before)) / 2,
    )
