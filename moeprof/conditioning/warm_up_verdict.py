"""Whether, and since when, what was watched during a warm-up has been steady."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from moeprof.conditioning.landmarks import landmarks
from moeprof.conditioning.relaxation import fit_relaxation
from moeprof.conditioning.steady import Slope, quantum_of, slope

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.conditioning.settings import WarmUpSettings

_SECONDS_PER_MINUTE = 60.0
_TESTED_FRACTION = 1 / 3  # of the warm-up: its end
_LONGER_FRACTION = 2 / 3  # tested where noise hides what the end does
_TESTED_SECONDS_MIN = 10.0
_SAME_CLOCK_FRACTION = 0.02
# The slowest heatsink that is reckoned with where too little of its curve is seen.
_SLOWEST_NODE_SECONDS = 300.0

Series = tuple["NDArray[np.float64]", "NDArray[np.float64]"]
Finding = tuple[bool, float, str]  # steady, since which second, in words


@dataclass(slots=True)
class WarmUpLog:
    """Series of (seconds since the start, value) of what a warm-up watches."""

    celsius: list[tuple[float, float]] = field(default_factory=list)
    clocks_hertz: list[tuple[float, float]] = field(default_factory=list)
    latencies_seconds: list[tuple[float, float]] = field(default_factory=list)


def verdict(log: WarmUpLog, settings: WarmUpSettings) -> tuple[bool | None, float | None, str]:
    """Return whether all that could be tested is steady, since which second, and the findings."""
    bound = settings.drift_celsius_per_minute_max / _SECONDS_PER_MINUTE
    fraction = settings.latency_drift_fraction_max
    findings = [
        finding
        for finding in (
            _temperature(_arrays(log.celsius), bound, _power_since(_arrays(log.clocks_hertz))),
            _drift("latency", _arrays(log.latencies_seconds), fraction),
            _drift("SM clock", _arrays(log.clocks_hertz), fraction),
        )
        if finding is not None
    ]
    if not findings:
        return None, None, "too few readings to test whether the device was steady"
    steady = all(finding[0] for finding in findings)
    since_seconds = max(finding[1] for finding in findings) if steady else None
    return steady, since_seconds, "; ".join(finding[2] for finding in findings)


def _arrays(series: list[tuple[float, float]]) -> Series:
    table = np.array(series, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _end_of(series: Series, fraction: float = _TESTED_FRACTION) -> Series:
    seconds, values = series
    if not len(seconds):
        return series
    span = max(_TESTED_SECONDS_MIN, fraction * seconds[-1])
    kept = seconds > seconds[-1] - span
    return seconds[kept], values[kept]


def _power_since(clocks: Series) -> float:
    """Return the second since which the SM clock, and so the power, has been what it is."""
    seconds, hertz = clocks
    if not len(hertz):
        return 0.0
    smoothed = _smoothed(hertz)
    level = float(np.median(_end_of(clocks)[1]))
    return _last_beyond(seconds, np.abs(smoothed / level - 1) > _SAME_CLOCK_FRACTION)


def _temperature(series: Series, bound_per_second: float, power_since: float) -> Finding | None:
    seconds, celsius = series
    quantum = quantum_of(celsius) if len(celsius) else 0.0
    # A die relaxes after a step of power, not after a clock that a governor has moved meanwhile.
    last = seconds >= power_since
    marks = landmarks(seconds[last] - power_since, celsius[last], quantum=quantum)
    curve = None if marks is None else fit_relaxation(marks)
    found, since = _without_a_curve(series, quantum)
    # Two honest intervals: the narrower one says more.
    if curve is not None and (found is None or curve.end_slope().width < found.width):
        found = curve.end_slope()
        times = (seconds - power_since).tolist()
        slopes = np.array([abs(curve.slope_per_second(max(at, 0.0))) for at in times])
        since = _last_beyond(seconds, slopes > bound_per_second)
    if found is None:
        return None
    per_minute = [
        each * _SECONDS_PER_MINUTE
        for each in (found.estimate_per_second, found.low_per_second, found.high_per_second)
    ]
    words = (
        f"temperature drifts {per_minute[0]:+.2f} °C/min "
        f"({per_minute[1]:+.2f} to {per_minute[2]:+.2f})"
    )
    return found.is_within(bound_per_second), since, words


def _without_a_curve(series: Series, quantum: float) -> tuple[Slope | None, float]:
    """Return the slope, and where it was taken from, of a record that shows no relaxation."""
    seconds, celsius = series
    changes = np.flatnonzero(np.diff(celsius))
    first = int(changes[-1]) + 1 if len(changes) else 0
    still_seconds = float(seconds[-1] - seconds[first]) if len(seconds) else 0.0
    if quantum and still_seconds >= _TESTED_FRACTION * seconds[-1] >= _TESTED_SECONDS_MIN:
        # What still relaxes within one step of the reading, with the slowest plausible node.
        growth = math.expm1(still_seconds / _SLOWEST_NODE_SECONDS)
        hidden = quantum / (_SLOWEST_NODE_SECONDS * growth)
        return Slope(0.0, -hidden, hidden), float(seconds[first])
    end_seconds, end_celsius = _end_of(series)
    start = float(end_seconds[0]) if len(end_seconds) else 0.0
    return slope(end_seconds, end_celsius, quantum=quantum), start


def _drift(name: str, series: Series, fraction_max: float) -> Finding | None:
    """Test the relative drift over the end of the warm-up, or over more where noise hides it."""
    seconds, values = _end_of(series)
    found = slope(seconds, values)
    if found is None:
        return None
    level, span = float(np.median(values)), float(seconds[-1] - seconds[0])
    steady = found.is_within(fraction_max * level / span)
    longer_seconds, longer_values = _end_of(series, _LONGER_FRACTION)
    longer = slope(longer_seconds, longer_values)
    if not steady and longer is not None:
        found, span = longer, float(longer_seconds[-1] - longer_seconds[0])
        steady = found.is_within(fraction_max * level / span)
    off = np.abs(_smoothed(series[1]) / level - 1) > fraction_max
    since = _last_beyond(series[0], off)
    drift_percent = 100 * found.estimate_per_second * span / level
    return steady, since, f"{name} drifts {drift_percent:+.2f} % in {span:.0f} s"


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return running medians of 9, so that noise does not pass for drift."""
    padded = np.pad(values, 4, mode="edge")
    smoothed: NDArray[np.float64] = np.median(
        np.lib.stride_tricks.sliding_window_view(padded, 9), axis=1
    )
    return smoothed


def _last_beyond(seconds: NDArray[np.float64], beyond: NDArray[np.bool_]) -> float:
    """Return the second after which a series is within its bound for good."""
    places = np.flatnonzero(beyond)
    if not len(places):
        return 0.0
    return float(seconds[min(int(places[-1]) + 1, len(seconds) - 1)])
