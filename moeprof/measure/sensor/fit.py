"""A sensor's averaging window and lag, by least squares of the averaged load on its readings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from scipy.special import stdtrit

from moeprof.measure.sensor.stream import Quantity, Unclear

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from moeprof.measure.sensor.load_course import LoadCourse
    from moeprof.measure.sensor.updates import Updates

# Windows: 10 ms (Volta) to 1 s (Ampere and later); lags: up to 0.1 s and more (arXiv 2312.02741).
# A reading that comes a little early is placed wrong by the polls; what lies further out is none.
_LAG_BOUNDS_SECONDS = (-0.02, 0.3)
_WINDOW_BOUNDS_SECONDS = (0.002, 1.5)
# Valleys of the loss are as wide as the window, or as the shortest phases of the load.
_STARTS_SECONDS = 0.02
_CLOSE_STARTS_SECONDS = 0.006
_SHORT_WINDOW_SECONDS_MAX = 0.05
_NUM_STARTS = 5
_STEP_SECONDS = 0.0005  # of the derivative
_PRECISION_SECONDS = 2e-5
_NUM_READINGS_MIN = 15
_CONFIDENCE = 0.95
# By how much of the window power may shift it that settles unlike the course's followers do: up to
# 0.3 % on simulated cards, whose history is a coarse one.
_SETTLING_FRACTION = 0.005
# Of the readings' variance; a load that explains less is not what they saw.
_EXPLAINED_FRACTION_MIN = 0.5


@dataclass(frozen=True, slots=True)
class Fitted:
    """What fits best, with 95 % half-widths; a window that was given has no error."""

    window_seconds: float
    window_error_seconds: float
    lag_seconds: float
    lag_error_seconds: float


def fit_window_and_lag(
    course: LoadCourse, updates: Updates, quantity: Quantity
) -> Fitted | Unclear:
    """Return window and lag: a reading at t is the mean power from t - lag - window to t - lag.

    Of an energy counter only the lag is asked: two ticks bound the window themselves.
    """
    ends, gaps, watts = _readings(updates, quantity)
    if len(watts) < _NUM_READINGS_MIN:
        return Unclear(f"{len(watts)} readings are too few for a fit")
    is_power = quantity is Quantity.POWER

    def columns(point: NDArray[np.float64]) -> NDArray[np.float64]:
        lagged = ends - point[0]
        window = max(float(point[1]), _WINDOW_BOUNDS_SECONDS[0]) if is_power else gaps
        return course.columns(lagged - window, lagged)

    point = _best(columns, watts, is_power=is_power)
    if reason := _out_of_bounds(point):
        return Unclear(reason)
    left = _residuals(columns(point), watts)
    if left @ left > (1 - _EXPLAINED_FRACTION_MIN) * np.var(watts) * len(left):
        return Unclear("the readings do not follow the load")
    errors = _errors(columns, point, watts)
    placing_seconds = updates.placing_error_seconds
    if is_power:
        placing_seconds = math.hypot(placing_seconds, _SETTLING_FRACTION * float(point[1]))
    window_seconds = float(point[1]) if is_power else float(np.median(gaps))
    return Fitted(
        window_seconds=window_seconds,
        window_error_seconds=math.hypot(errors[1], placing_seconds) if is_power else 0.0,
        lag_seconds=float(point[0]),
        lag_error_seconds=math.hypot(errors[0], placing_seconds),
    )


def _readings(
    updates: Updates, quantity: Quantity
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the readings, the seconds since the one before, and the watts."""
    gaps = np.diff(updates.at_seconds)
    ends = updates.at_seconds[1:]
    if quantity is Quantity.POWER:
        return ends, gaps, updates.values[1:]
    joules = np.diff(updates.values)
    grew = (joules > 0) & (gaps > 0)  # a counter that goes back has been reset
    return ends[grew], gaps[grew], joules[grew] / gaps[grew]


def _best(
    columns: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    watts: NDArray[np.float64],
    *,
    is_power: bool,
) -> NDArray[np.float64]:
    size = 1 + is_power
    low, high = np.array([_LAG_BOUNDS_SECONDS, _WINDOW_BOUNDS_SECONDS][:size]).T

    def loss(point: NDArray[np.float64]) -> float:
        within = np.clip(point, low, high)
        residuals = _residuals(columns(within), watts)
        beyond = float(np.sum(np.abs(point - within))) / _STARTS_SECONDS
        return float(residuals @ residuals) * (1 + beyond)

    short, (shortest, longest) = _SHORT_WINDOW_SECONDS_MAX, _WINDOW_BOUNDS_SECONDS
    near, far = (
        [np.arange(*_LAG_BOUNDS_SECONDS, step), np.arange(first, last, step)][:size]
        for step, first, last in (
            (_CLOSE_STARTS_SECONDS, 2 * shortest, short),
            (_STARTS_SECONDS, short, longest),
        )
    )
    starts = [np.array(point) for axes in (near, far) for point in product(*axes)]
    found = []
    for start in sorted(starts, key=loss)[:_NUM_STARTS]:
        # A simplex, because readings that leave an edge bend the loss.
        simplex = np.vstack([start, start + np.diag([0.005, 0.005])[:size, :size]])
        result = minimize(
            loss,
            start,
            method="Nelder-Mead",
            options={
                "initial_simplex": simplex,
                "xatol": _PRECISION_SECONDS,
                "fatol": np.inf,
            },
        )
        found.append((float(result.fun), result.x))
    best: NDArray[np.float64] = min(found, key=lambda each: each[0])[1]
    return best


def _out_of_bounds(point: NDArray[np.float64]) -> str | None:
    """Return why a point is no figure: what fits best lies at a bound, or beyond it."""
    all_bounds = (("lag", _LAG_BOUNDS_SECONDS), ("averaging window", _WINDOW_BOUNDS_SECONDS))
    for value, (name, (low, high)) in zip(point.tolist(), all_bounds, strict=False):
        if not low + _STEP_SECONDS < value < high - _STEP_SECONDS:
            return f"no {name} between {1000 * low:g} and {1000 * high:g} ms fits the readings"
    return None


def _residuals(columns: NDArray[np.float64], watts: NDArray[np.float64]) -> NDArray[np.float64]:
    weights, *_ = np.linalg.lstsq(columns, watts, rcond=None)
    residuals: NDArray[np.float64] = watts - columns @ weights
    return residuals


def _errors(
    columns: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    point: NDArray[np.float64],
    watts: NDArray[np.float64],
) -> list[float]:
    """Return 95 % half-widths of the point; infinite where the readings do not depend on it."""
    at_point = columns(point)
    weights, *_ = np.linalg.lstsq(at_point, watts, rcond=None)
    slopes = []
    for axis in range(len(point)):
        step = np.zeros(len(point))
        step[axis] = _STEP_SECONDS
        moved = (columns(point + step) - columns(point - step)) @ weights
        slopes.append(moved / (2 * _STEP_SECONDS))
    residuals = watts - at_point @ weights
    # What the nuisances can explain of a slope says nothing about the point.
    matrix = np.stack(slopes, axis=1)
    matrix -= at_point @ np.linalg.lstsq(at_point, matrix, rcond=None)[0]
    num_free = max(1, len(residuals) - at_point.shape[1] - len(point))
    variance = float(residuals @ residuals) / num_free
    information = matrix.T @ matrix
    if np.linalg.cond(information) > 1 / np.finfo(float).eps:
        return [float("inf")] * len(point)
    quantile = float(stdtrit(num_free, (1 + _CONFIDENCE) / 2))
    covariance = variance * np.linalg.inv(information)
    return [quantile * float(np.sqrt(each)) for each in np.diag(covariance)]
