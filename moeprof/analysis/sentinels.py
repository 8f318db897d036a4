"""The sentinels of a run as series of one point each, in the order of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.analysis.rows import log_errors, moments, reals
from moeprof.record import Role

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_FEWEST_TO_STRAY: Final = 4
_STRAY_ERRORS: Final = 5.0
_ROUNDING: Final = 1e-9
# Of values that only scatter, a running median of three leaves a third where they are.
_ERRORS_PER_MEDIAN_RESIDUAL: Final = 3.0


@dataclass(frozen=True, slots=True)
class Series:
    """One point measured again and again in one run.

    `log_errors` are the standard errors of `log_latencies`, 0 where none is known.
    """

    run_id: str
    order_indices: NDArray[np.float64]
    moments_seconds: NDArray[np.float64]
    log_latencies: NDArray[np.float64]
    log_errors: NDArray[np.float64]

    def without_strays(self) -> Series:
        """Return the series less the sentinels that lie far from both their neighbours.

        A step or a steep drift leaves a sentinel near or between its neighbours, so these are kept.
        The first and last have but one neighbour, and have to lie far outside all the others.
        """
        if len(self.log_latencies) < _FEWEST_TO_STRAY:
            return self
        smooth = self.log_latencies.copy()
        smooth[1:-1] = np.median(np.lib.stride_tricks.sliding_window_view(smooth, 3), axis=1)
        smooth[[0, -1]] = smooth[[1, -2]]
        residuals = np.abs(self.log_latencies - smooth)
        scatter = np.full(len(smooth), _ERRORS_PER_MEDIAN_RESIDUAL * np.median(residuals[1:-1]))
        scatter[[0, -1]] = np.ptp(smooth)
        errors = np.maximum(self.log_errors, float(np.median(self.log_errors)))
        kept = residuals <= _STRAY_ERRORS * np.hypot(errors, scatter) + _ROUNDING
        return Series(
            self.run_id,
            self.order_indices[kept],
            self.moments_seconds[kept],
            self.log_latencies[kept],
            self.log_errors[kept],
        )

    def thinned(self, num_max: int) -> Series:
        """Return the series with means of neighbours in place of more than `num_max` sentinels."""
        if len(self.log_latencies) <= num_max:
            return self
        groups = np.array_split(np.arange(len(self.log_latencies)), num_max)
        order, seconds, latencies = (
            np.array([values[group].mean() for group in groups])
            for values in (self.order_indices, self.moments_seconds, self.log_latencies)
        )
        errors = [np.sqrt(np.sum(self.log_errors[group] ** 2)) / len(group) for group in groups]
        return Series(self.run_id, order, seconds, latencies, np.array(errors))


def sentinel_series(table: pa.Table) -> tuple[Series, ...]:
    """Return every point of `measurements` that was measured as a sentinel twice or more in a run.

    Ranks with the same rows share one measurement, which counts once.
    """
    order, latencies = reals(table, "order_index"), reals(table, "latency_seconds")
    roles = table["role"].to_pylist()
    usable = (latencies > 0) & np.array([role == Role.SENTINEL for role in roles], dtype=np.bool_)
    run_ids, point_ids = table["run_id"].to_pylist(), table["point_id"].to_pylist()
    owners: dict[tuple[str, str], dict[float, int]] = {}
    measured: set[tuple[str, float, float]] = set()
    for row in np.flatnonzero(usable).tolist():
        once = (run_ids[row], order[row], latencies[row])
        if once not in measured:
            measured.add(once)
            owners.setdefault((run_ids[row], point_ids[row]), {})[order[row]] = row
    seconds, errors = moments(table), log_errors(table, "latency_seconds")
    # Where no interval was claimed, no trust in the value.
    errors = np.nan_to_num(errors, nan=float(np.nanmax(errors[usable], initial=0.0)))
    series = []
    for (run_id, _), members in sorted(owners.items()):
        rows = np.array([row for _, row in sorted(members.items())])
        if len(rows) > 1:
            log_latencies = np.log(latencies[rows])
            series.append(Series(run_id, order[rows], seconds[rows], log_latencies, errors[rows]))
    return tuple(series)
