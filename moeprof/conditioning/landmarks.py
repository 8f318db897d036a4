"""The moments of a temperature record at which rounding hides nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_BINS_MAX = 100
_ERROR_MIN_CELSIUS = 0.05
_READINGS_MIN = 12


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Temperatures known to about `errors_celsius`, and between which bounds the record ends."""

    seconds: Vector
    celsius: Vector
    errors_celsius: Vector
    end_seconds: float
    end_celsius: float
    end_slack_celsius: float
    end_error_celsius: float


def landmarks(seconds: Vector, celsius: Vector, *, quantum: float) -> Landmarks | None:
    """Return the landmarks of readings rounded to `quantum` (0: not rounded), None if too few.

    When a rounded reading changes, the temperature lies halfway between both readings, as exactly
    as the moment is known. Readings that are not rounded are averaged in bins.
    """
    if len(celsius) < _READINGS_MIN:
        return None
    marked = _changes(seconds, celsius, quantum) if quantum else _means(seconds, celsius)
    return Landmarks(
        *marked,
        end_seconds=float(seconds[-1]),
        end_celsius=float(np.median(celsius[-5:])),
        end_slack_celsius=quantum / 2,
        end_error_celsius=max(_ERROR_MIN_CELSIUS, quantum / 10),
    )


def _changes(seconds: Vector, celsius: Vector, quantum: float) -> tuple[Vector, Vector, Vector]:
    places = np.flatnonzero(np.diff(celsius))
    gaps = seconds[places + 1] - seconds[places]
    middles = (celsius[places + 1] + celsius[places]) / 2
    jumps = np.abs(celsius[places + 1] - celsius[places])
    times = (seconds[places + 1] + seconds[places]) / 2
    # Uniform within the gap between two readings, at the speed that the changes themselves show.
    waits = np.diff(times, prepend=0.0)
    speeds = np.maximum(jumps - quantum, 0) / gaps + quantum / np.maximum(waits, gaps)
    errors = np.hypot(_ERROR_MIN_CELSIUS, speeds * gaps / math.sqrt(12))
    return times, middles, errors


def _means(seconds: Vector, celsius: Vector) -> tuple[Vector, Vector, Vector]:
    groups = np.array_split(np.arange(len(celsius)), min(_BINS_MAX, len(celsius) // 3))
    means = np.array([celsius[group].mean() for group in groups])
    # Differences of neighbours know the noise, whatever the curve.
    noise = float(np.median(np.abs(np.diff(celsius)))) / math.sqrt(2) / 0.6745
    sizes = np.array([len(group) for group in groups])
    bends = np.abs(np.gradient(means)) / sizes
    errors = np.hypot(_ERROR_MIN_CELSIUS / 2, noise / np.sqrt(sizes)) + bends / 2
    return np.array([seconds[group].mean() for group in groups]), means, errors
