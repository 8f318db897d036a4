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
    from moeprof.conditioning.landmarks import Landmarks, Vector

_TIME_CONSTANTS = 16
_SHORTEST_SECONDS = 1.0
_LONGEST_SPANS = 2.0
# The end of the record, which lies between two steps, says a little more.
_LANDMARKS_MIN = 6
# A second exponential has to earn its two parameters (a likelihood ratio at well below 1 %).
_GAIN_OF_SECOND = 12.0
# In the landmarks' own errors, root mean square: a worse fit means that this is no relaxation.
_MISFIT_MAX = 4.0
_STANDARD_ERRORS = float(ndtri(0.95))


@dataclass(frozen=True, slots=True)
class Relaxation:
    """A fitted curve `level + sum(amplitude * exp(-t / time constant))`, t from the start.

    `slope_error_per_second` is the standard error of its slope at `end_seconds`.
    """

    time_constants_seconds: tuple[float, ...]
    amplitudes_celsius: tuple[float, ...]
    end_seconds: float
    slope_error_per_second: float

    def slope_per_second(self, seconds: float) -> float:
        """Return the slope at `seconds`."""
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


def fit_relaxation(marks: Landmarks) -> Relaxation | None:
    """Fit one thermal node, or two where one does not do; None where neither fits.

    Readings rounded to 1 C say little about a slope of 0.2 C/min within a minute, but the moments
    at which they changed on the way there say much about the curve. Time constants are searched on
    a grid, with amplitudes by linear least squares (variable projection, Golub and Pereyra 1973),
    then everything is refined together.
    """
    if len(marks.seconds) < _LANDMARKS_MIN:
        return None
    cost, parameters, jacobian = _fit(marks, 1)
    second = _fit(marks, 2)
    if second[0] < cost - _GAIN_OF_SECOND * max(1.0, second[0] / len(second[2])):
        cost, parameters, jacobian = second
    variance = max(1.0, cost / max(1, len(marks.seconds) - len(parameters)))
    if variance > _MISFIT_MAX**2:
        return None
    return _described(parameters, jacobian, variance, marks.end_seconds)


def _fit(marks: Landmarks, num_nodes: int) -> tuple[float, Vector, Vector]:
    """Return the sum of squares, the parameters (level, amplitudes, log time constants), and J."""
    longest = _LONGEST_SPANS * marks.end_seconds
    grid = np.log(np.geomspace(_SHORTEST_SECONDS, longest, _TIME_CONSTANTS))
    starts = [_projected(np.array(constants), marks) for constants in combinations(grid, num_nodes)]
    start = min(starts, key=lambda each: float(np.sum(_residuals(each, marks) ** 2)))
    limits = np.full(len(start), np.inf)
    limits[-num_nodes:] = math.log(2 * longest)
    floors = np.full(len(start), -np.inf)
    floors[-num_nodes:] = math.log(_SHORTEST_SECONDS / 2)
    found = least_squares(
        _residuals, start, bounds=(floors, limits), args=(marks,), x_scale="jac", max_nfev=200
    )
    return 2 * float(found.cost), found.x, found.jac


def _projected(log_constants: Vector, marks: Landmarks) -> Vector:
    """Return all parameters, with the level and the amplitudes that suit the time constants."""
    decays = np.exp(-marks.seconds[:, None] / np.exp(log_constants))
    design = np.column_stack([np.ones(len(decays)), decays]) / marks.errors_celsius[:, None]
    linear = np.linalg.lstsq(design, marks.celsius / marks.errors_celsius, rcond=None)[0]
    return np.concatenate([linear, log_constants])


def _residuals(parameters: Vector, marks: Landmarks) -> Vector:
    num_nodes = len(parameters) // 2
    level, amplitudes = parameters[0], parameters[1 : num_nodes + 1]
    constants = np.exp(parameters[num_nodes + 1 :])
    curve = level + np.exp(-marks.seconds[:, None] / constants) @ amplitudes
    end = level + float(np.exp(-marks.end_seconds / constants) @ amplitudes)
    # The last reading only says between which steps the end lies.
    off = end - marks.end_celsius
    beyond = math.copysign(max(0.0, abs(off) - marks.end_slack_celsius), off)
    residuals: Vector = np.append(
        (curve - marks.celsius) / marks.errors_celsius, beyond / marks.end_error_celsius
    )
    return residuals


def _described(
    parameters: Vector, jacobian: Vector, variance: float, end_seconds: float
) -> Relaxation:
    num_nodes = len(parameters) // 2
    amplitudes = parameters[1 : num_nodes + 1]
    constants = np.exp(parameters[num_nodes + 1 :])
    rates = np.exp(-end_seconds / constants) / constants
    by_log_constant = amplitudes * rates * (1 - end_seconds / constants)
    gradient = np.concatenate([[0.0], -rates, by_log_constant])
    covariance = variance * np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-14)
    error = math.sqrt(max(0.0, float(gradient @ covariance @ gradient)))
    return Relaxation(tuple(constants.tolist()), tuple(amplitudes.tolist()), end_seconds, error)
