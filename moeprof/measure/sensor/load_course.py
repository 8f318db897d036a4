"""The mean of a load over windows of time, and of what warms and cools after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.measure.sensor.stream import Phase

# How power settles after a switch: clocks and regulators in tenths of a second, a die in seconds.
_SETTLING_SECONDS = (0.3, 3.0)


class LoadCourse:
    """A load that is 1 in its phases and else 0, solved exactly between its edges.

    Beside the load itself stand first-order followers of it, so that power which rises under load
    and decays after it can be told from a sensor's averaging.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        edges = [edge for phase in phases for edge in (phase.start_seconds, phase.end_seconds)]
        self._edges = np.array(edges)
        self._levels = np.array([0.0] + [1.0, 0.0] * len(phases))
        self._middle_seconds = float(self._edges.mean())
        self._load_integral = _integral_at_edges(self._edges, self._levels)
        self._followers = [
            (settling, *_follow(self._edges, self._levels, settling))
            for settling in _SETTLING_SECONDS
        ]

    def columns(
        self, start_seconds: NDArray[np.float64], end_seconds: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the means over windows, [num_windows, 5]: one, load, followers, time."""
        seconds = end_seconds - start_seconds
        columns = [np.ones_like(seconds)]
        columns.append((self._load_by(end_seconds) - self._load_by(start_seconds)) / seconds)
        for settling, values, integral in self._followers:
            by_end = self._follower_by(end_seconds, settling, values, integral)
            by_start = self._follower_by(start_seconds, settling, values, integral)
            columns.append((by_end - by_start) / seconds)
        columns.append((start_seconds + end_seconds) / 2 - self._middle_seconds)
        return np.stack(columns, axis=1)

    def _load_by(self, at_seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        integral: NDArray[np.float64] = np.interp(at_seconds, self._edges, self._load_integral)
        return integral

    def _follower_by(
        self,
        at_seconds: NDArray[np.float64],
        settling_seconds: float,
        values: NDArray[np.float64],
        integral: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        index = np.searchsorted(self._edges, at_seconds, side="right")
        last = np.maximum(index - 1, 0)
        since = np.where(index > 0, at_seconds - self._edges[last], 0.0)
        level, excess = self._levels[index], values[last] - self._levels[index]
        gone = -np.expm1(-since / settling_seconds)
        by: NDArray[np.float64] = integral[last] + level * since + settling_seconds * excess * gone
        return by


def _integral_at_edges(
    edges: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(levels[1:-1] * np.diff(edges))])


def _follow(
    edges: NDArray[np.float64], levels: NDArray[np.float64], settling_seconds: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the follower, at rest before the first edge, and its integral, both at the edges."""
    values, integral = [0.0], [0.0]
    for seconds, level in zip(np.diff(edges), levels[1:-1], strict=True):
        gone = -float(np.expm1(-seconds / settling_seconds))
        excess = values[-1] - level
        integral.append(integral[-1] + level * seconds + settling_seconds * excess * gone)
        values.append(values[-1] - excess * gone)
    return np.array(values), np.array(integral)
