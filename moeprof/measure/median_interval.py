"""The interval of a median that dependent samples and early stopping leave valid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from moeprof.measure.autocorrelation import samples_per_independent_sample
from moeprof.record import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.measure.settings import StoppingSettings

# Found by simulating coverage, see selfcheck/stopping.py: AR(1) of 0 to 0.9, with outliers.
_LOOK_GROWTH_FRACTION = 0.4  # few looks, so that stopping at the first narrow one costs little
_INDEPENDENT_SAMPLES_MIN = 40
# Pays for an estimated dependence, and for stopping where it happens to look weak: nothing where
# samples are independent, and the less the more of them there are.
_WIDENING = 1.3


class MedianIntervalRule:
    """Stops when the interval of the median is narrow enough.

    The interval runs between two order statistics (David and Nagaraja, Order Statistics, 7.1): the
    number of n samples below the true median has mean n/2 and variance n/4 times the
    autocorrelation time. That is only estimated, which widens the interval by a share that shrinks
    with the root of the independent samples' worth. Looking only at sample counts that grow
    geometrically, and only once there are 40 of these, keeps 95 % intervals within 93 to 97 % in
    every bin of dependence (`moeprof selfcheck`).
    """

    def __init__(self, settings: StoppingSettings) -> None:
        self._settings = settings
        self._latencies: list[float] = []
        self._next_look = max(2, settings.num_samples_min)
        self._finished = False
        self._looked_at: tuple[int, Interval] | None = None  # at so many samples

    def add(self, latency_seconds: float) -> None:
        """Take in one sample, in seconds per launch."""
        self._latencies.append(latency_seconds)

    def is_finished(self) -> bool:
        """Return whether the interval is narrow enough; once True, it stays True."""
        if not self._finished and len(self._latencies) >= self._next_look:
            self._next_look = math.ceil(len(self._latencies) * (1 + _LOOK_GROWTH_FRACTION))
            self._look()
        return self._finished

    def conclude(self) -> bool:
        """Return whether the interval is narrow enough, after one last look at a spent budget."""
        if not self._finished and len(self._latencies) >= self._settings.num_samples_min:
            self._look()
        return self._finished

    def _look(self) -> None:
        values = np.array(self._latencies)
        per_independent = samples_per_independent_sample(values)
        interval = _interval(values, per_independent, self._settings.confidence)
        self._looked_at = (len(values), interval)
        self._finished = (
            len(values) >= _INDEPENDENT_SAMPLES_MIN * per_independent
            and interval.confidence >= self._settings.confidence
            and interval.relative_half_width_fraction <= self._settings.relative_half_width_fraction
        )

    def interval(self) -> Interval:
        """Return the median and its interval, in seconds, from all samples so far.

        Where the samples are too few for the confidence asked, the interval runs from the least to
        the greatest of them, and its `confidence` says what that is worth.
        """
        assert self._latencies, "an interval needs a sample"
        if self._looked_at is not None and self._looked_at[0] == len(self._latencies):
            return self._looked_at[1]
        values = np.array(self._latencies)
        per_independent = samples_per_independent_sample(values)
        return _interval(values, per_independent, self._settings.confidence)


def _interval(values: NDArray[np.float64], per_independent: float, confidence: float) -> Interval:
    num_values = len(values)
    ordered = np.sort(values)
    num_independent = num_values / per_independent
    strength = max(0.0, 1 - 1 / per_independent)
    widening = 1 + _WIDENING * strength / math.sqrt(num_independent)
    quantile = float(ndtri((1 + confidence) / 2))
    half_ranks = widening * quantile * math.sqrt(num_values * per_independent) / 2
    middle = (num_values - 1) / 2
    if half_ranks > middle:
        # Both extremes miss the median only if all samples fall on one side of it.
        half_ranks = middle
        confidence = min(confidence, max(0.0, 1 - 2 ** (1 - num_independent)))
    ranks = np.arange(num_values)
    estimate, low, high = np.interp(
        [middle, middle - half_ranks, middle + half_ranks], ranks, ordered
    ).tolist()
    return Interval(estimate, low, high, confidence)
