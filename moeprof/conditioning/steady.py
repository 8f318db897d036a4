"""Whether a series is steady: a test that has to show it, not one that fails to deny it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES_MIN = 8
_LEVEL_FRACTION = 0.05  # of each one-sided test
_REVERSALS_OF_DITHERED = 10


@dataclass(frozen=True, slots=True)
class Slope:
    """The slope of a series, in its own units per second, with its 90 % interval."""

    estimate_per_second: float
    low_per_second: float
    high_per_second: float

    @property
    def width(self) -> float:
        """How wide the interval is, in units per second."""
        return self.high_per_second - self.low_per_second

    def is_within(self, bound_per_second: float) -> bool:
        """Return whether the whole interval lies within plus and minus the bound.

        Two one-sided tests at 5 % (TOST, Schuirmann 1987): no evidence is no steadiness.
        """
        return max(abs(self.low_per_second), abs(self.high_per_second)) <= bound_per_second


def slope(
    seconds: NDArray[np.float64], values: NDArray[np.float64], *, quantum: float = 0.0
) -> Slope | None:
    """Return the least-squares slope of a series; None for fewer than 8 values.

    Correlated residuals count as fewer (AR(1)). `quantum` is the step of the readings: rounding
    hides a slope of up to 1.5 quanta per length of the series, unless the readings go up and down
    between neighbouring steps often enough to show what lies between them.
    """
    num_values = len(values)
    if num_values < VALUES_MIN or seconds[-1] <= seconds[0]:
        return None
    centred = seconds - seconds.mean()
    spread = float(centred @ centred)
    estimate = float(centred @ values) / spread
    residuals = values - values.mean() - estimate * centred
    power = float(residuals @ residuals)
    correlation = 0.0 if power == 0 else float(residuals[1:] @ residuals[:-1]) / power
    correlation = min(max(correlation + 4 / num_values, 0.0), 0.99) if power else 0.0
    fewer = (1 - correlation) / (1 + correlation)
    degrees = max(1.0, num_values * fewer - 2)
    error = math.sqrt(power / (num_values - 2) / spread / fewer)
    half_width = float(stdtrit(degrees, 1 - _LEVEL_FRACTION)) * error
    if quantum and _num_reversals(values) < _REVERSALS_OF_DITHERED:
        half_width += quantum / 2 * float(np.abs(centred).sum()) / spread
    return Slope(estimate, estimate - half_width, estimate + half_width)


def quantum_of(values: NDArray[np.float64]) -> float:
    """Return the step that readings seem to be rounded to, 0 if to none."""
    levels = np.unique(values)
    if len(levels) == 1:
        return 1.0 if float(levels[0]).is_integer() else 0.0
    step = float(np.diff(levels).min())
    return step if len(levels) < len(values) / 2 else 0.0


def _num_reversals(values: NDArray[np.float64]) -> int:
    moves = np.sign(np.diff(values))
    moves = moves[moves != 0]
    return int((moves[1:] != moves[:-1]).sum())
