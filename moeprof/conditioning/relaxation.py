"""A temperature that settles after a step of power, as one or two decaying exponentials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import least_squares
from scipy.special import ndtri

from moeprof.conditioning.steady import Slope

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BINS_MAX = 200
_TIME_CONSTANTS = 14
_SHORTEST_SECONDS = 2.0
# The die itself follows within seconds: too fast for the bins, and over long before the end.
_SKIPPED_SECONDS = 5.0
_SKIPPED_FRACTION = 0.05
_LONGEST_SPANS = 4.0
_STANDARD_ERRORS = float(ndtri(0.95))


@dataclass(frozen=True, slots=True)
class Relaxation:
    """A fitted curve `level + sum(amplitude * exp(-t / time constant))`, t from the first reading.

    `slope_error_per_second` is the standard error of its slope at the end, and
    `residual_celsius` how far readings lie from it, root mean square.
    """

    time_constants_seconds: tuple[float, ...]
    amplitudes_celsius: tuple[float, ...]
    end_seconds: float
    slope_error_per_second: float
    residual_celsius: float

    def slope_per_second(self, seconds: float) -> float:
        """Return the slope at `seconds` after the first reading."""
        return -sum(
            amplitude / constant * math.exp(-seconds / constant)
            for amplitude, constant in zip(
                self.amplitudes_celsius, self.time_constants_seconds, strict=True
            )
        )

    def end_slope(self) -> Slope:
        """Return the slope at the end with its 90 % interval."""
        estimate = self.slope_per_second(self.end_seconds)
        half_width = _STANDARD_ERRORS * self.slope_error_per_second
        return Slope(estimate, estimate - half_width, estimate + half_width)


def fit_relaxation(seconds: NDArray[np.float64], celsius: NDArray[np.float64]) -> Relaxation | None:
    """Fit two thermal nodes to readings; None for fewer than 20 readings.

    Readings rounded to 1 C say little about a slope of 0.2 C/min within a minute, but the moments
    at which they changed on the way there say much about the curve. The nonlinear part is searched
    on a grid, then refined; amplitudes follow by linear least squares (variable projection, Golub
    and Pereyra 1973).
    """
    since_seconds = seconds - seconds[0] if len(seconds) else seconds
    span_seconds = float(since_seconds[-1]) if len(seconds) else 0.0
    late = since_seconds >= min(_SKIPPED_SECONDS, _SKIPPED_FRACTION * span_seconds)
    if int(late.sum()) < 20:  # noqa: PLR2004 - five parameters are fitted
        return None
    times, values = _binned(since_seconds[late], celsius[late])
    constants = np.geomspace(_SHORTEST_SECONDS, _LONGEST_SPANS * span_seconds, _TIME_CONSTANTS)
    pairs = list(combinations(np.log(constants), 2))
    best = min(
        pairs, key=lambda pair: float(np.sum(_residuals(np.array(pair), times, values) ** 2))
    )
    limits = (math.log(_SHORTEST_SECONDS / 2), math.log(2 * _LONGEST_SPANS * span_seconds))
    found = least_squares(
        _residuals, np.array(best), bounds=limits, args=(times, values), x_scale=1.0
    )
    return _described(np.exp(found.x), times, values)


def _binned(
    seconds: NDArray[np.float64], celsius: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    edges = np.linspace(0, len(seconds), min(_BINS_MAX, len(seconds)) + 1).astype(int)[:-1]
    counts = np.diff(np.append(edges, len(seconds)))
    return np.add.reduceat(seconds, edges) / counts, np.add.reduceat(celsius, edges) / counts


def _design(constants: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    decays = [np.exp(-times / constant) for constant in constants]
    return np.column_stack([np.ones_like(times), *decays])


def _residuals(
    log_constants: NDArray[np.float64], times: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    design = _design(np.exp(log_constants), times)
    amplitudes = np.linalg.lstsq(design, values, rcond=None)[0]
    residuals: NDArray[np.float64] = values - design @ amplitudes
    return residuals


def _described(
    constants: NDArray[np.float64], times: NDArray[np.float64], values: NDArray[np.float64]
) -> Relaxation:
    design = _design(constants, times)
    amplitudes = np.linalg.lstsq(design, values, rcond=None)[0]
    residuals = values - design @ amplitudes
    decays = design[:, 1:]
    by_constant = decays * (amplitudes[1:] * times[:, None] / constants**2)
    jacobian = np.column_stack([design, by_constant])
    end = decays[-1]
    gradient = np.concatenate(
        [
            [0.0],
            -end / constants,
            amplitudes[1:] * end / constants**2 * (1 - times[-1] / constants),
        ]
    )
    variance = float(residuals @ residuals) / max(1, len(times) - jacobian.shape[1])
    correlation = float(residuals[1:] @ residuals[:-1]) / max(float(residuals @ residuals), 1e-30)
    correlation = min(max(correlation, 0.0), 0.95)
    covariance = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-12)
    covariance *= variance * (1 + correlation) / (1 - correlation)
    return Relaxation(
        time_constants_seconds=tuple(constants.tolist()),
        amplitudes_celsius=tuple(amplitudes[1:].tolist()),
        end_seconds=float(times[-1]),
        slope_error_per_second=math.sqrt(max(0.0, float(gradient @ covariance @ gradient))),
        residual_celsius=math.sqrt(float(np.mean(residuals**2))),
    )
