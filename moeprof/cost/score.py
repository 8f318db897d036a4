"""How far predictions are from observations, over all rows and by regime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from moeprof.cost.points import Points

_DECODE_TOKENS: Final = 256
_HIGH_PERCENTILE: Final = 90


@dataclass(frozen=True, slots=True)
class Score:
    """Errors of predictions over `num_rows` rows, as fractions of what was observed.

    `*_ape_fraction` are the median, mean and 90th percentile of the absolute percentage error
    |predicted / observed - 1|. `bias_fraction` is the median of predicted / observed, less 1:
    above 0 where most predictions are too high. `interval_coverage_fraction` is the share of rows
    observed inside their interval; None: there were no intervals.
    """

    num_rows: int
    median_ape_fraction: float
    mean_ape_fraction: float
    p90_ape_fraction: float
    bias_fraction: float
    interval_coverage_fraction: float | None

    def to_json(self) -> dict[str, float | None]:
        """Return the score under the names that reports give it, without `_fraction`.

        An error that is infinite is None, as JSON has no word for it.
        """
        named = {
            "num_rows": self.num_rows,
            "median_ape": self.median_ape_fraction,
            "mean_ape": self.mean_ape_fraction,
            "p90_ape": self.p90_ape_fraction,
            "bias": self.bias_fraction,
            "interval_coverage": self.interval_coverage_fraction,
        }
        return {
            name: None if value is None or not np.isfinite(value) else value
            for name, value in named.items()
        }


def score(
    observed: NDArray[np.float64],
    predicted: NDArray[np.float64],
    low: NDArray[np.float64] | None = None,
    high: NDArray[np.float64] | None = None,
) -> Score | None:
    """Return the score of predictions, all arrays [num_rows] in the same unit.

    Rows without an observation (NaN) do not count; None: there is no other. A prediction that is
    not finite has an infinite error, and is seen in the mean. Bounds come as a pair.
    """
    assert (low is None) == (high is None)
    seen = np.isfinite(observed) & (observed > 0)
    if not seen.any():
        return None
    ratio = predicted[seen] / observed[seen]
    ratio = np.where(np.isfinite(ratio), ratio, np.inf)
    errors = np.abs(ratio - 1)
    coverage = None
    if low is not None and high is not None:
        inside = (low[seen] <= observed[seen]) & (observed[seen] <= high[seen])
        coverage = float(inside.mean())
    return Score(
        num_rows=int(seen.sum()),
        median_ape_fraction=float(np.median(errors)),
        mean_ape_fraction=float(errors.mean()),
        # The next observed error, not one between: infinite errors cannot be interpolated.
        p90_ape_fraction=float(np.percentile(errors, _HIGH_PERCENTILE, method="higher")),
        bias_fraction=float(np.median(ratio)) - 1,
        interval_coverage_fraction=coverage,
    )


def regimes(
    points: Points, outside: NDArray[np.bool_] | None = None
) -> Mapping[str, NDArray[np.bool_]]:
    """Return which points each regime has, as masks [num_points]; regimes without any are left out.

    `all`; `decode`, up to 256 tokens; `beyond`, more; `outside` the fitted range (see
    `holdout.outside_range`), where that is given. A point may be in several.
    """
    decode = points.batch_size <= _DECODE_TOKENS
    masks = {"all": np.ones(len(points), dtype=bool), "decode": decode, "beyond": ~decode}
    if outside is not None:
        masks["outside"] = outside
    return {name: mask for name, mask in masks.items() if mask.any()}


def score_by_regime(
    masks: Mapping[str, NDArray[np.bool_]],
    observed: NDArray[np.float64],
    predicted: NDArray[np.float64],
    low: NDArray[np.float64] | None = None,
    high: NDArray[np.float64] | None = None,
) -> dict[str, Score]:
    """Return the score in each regime that has an observed row; masks are those of `regimes`."""
    found = {
        name: score(
            observed[mask],
            predicted[mask],
            None if low is None else low[mask],
            None if high is None else high[mask],
        )
        for name, mask in masks.items()
    }
    return {name: each for name, each in found.items() if each is not None}
