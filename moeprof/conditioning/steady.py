"""Whether a series has stopped drifting: a test that must be passed, not a hope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUM_READINGS_MIN = 8


@dataclass(frozen=True, slots=True)
class Slope:
    """The slope of a series in units per second of device time, with its standard error."""

    per_second: float
    error_per_second: float
    num_readings: int

    def is_within(self, bound_per_second: float, *, confidence: float = 0.95) -> bool:
        """Return whether the slope is shown to lie within ± the bound.

        Two one-sided t tests (D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987): "not
        significantly drifting" is what too few readings always say, so the burden is reversed.
        """
        quantile = float(stats.t.ppf(confidence, self.num_readings - 2))
        return abs(self.per_second) + quantile * self.error_per_second <= bound_per_second


def slope(
    times_seconds: Sequence[float], values: Sequence[float], *, resolution: float = 0.0
) -> Slope | None:
    """Fit a line by least squares; None for fewer than eight readings or no time between them.

    `resolution` is the step of the readings (1 for a thermometer of whole degrees): their error
    is taken to be at least that of rounding, step/√12, even where all readings are equal.
    """
    if len(times_seconds) < _NUM_READINGS_MIN:
        return None
    times = np.asarray(times_seconds, dtype=np.float64)
    times = times - times.mean()
    spread = float(times @ times)
    if spread <= 0:
        return None
    readings = np.asarray(values, dtype=np.float64)
    per_second = float(times @ readings) / spread
    rest = readings - readings.mean() - per_second * times
    variance = max(float(rest @ rest) / (len(times) - 2), resolution**2 / 12)
    return Slope(per_second, float(np.sqrt(variance / spread)), len(times))
