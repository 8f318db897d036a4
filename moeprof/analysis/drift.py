"""Drift of the device through a run, seen in its sentinels, and latencies corrected for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from scipy import stats

from moeprof.analysis.drift_curve import drift_curve
from moeprof.analysis.rows import errors_per_half_width, moments, reals
from moeprof.analysis.sentinels import sentinel_series
from moeprof.dataset.columns import Column
from moeprof.dataset.schema import field

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAME: Final = "latency_seconds_drift_corrected"
DRIFT_CORRECTED: Final = (
    Column(
        _NAME,
        pa.float64(),
        "s",
        "Time of one launch (median), divided by the drift that the run's sentinels show",
    ),
    Column(
        f"{_NAME}_ci_low",
        pa.float64(),
        "s",
        "Lower bound of its interval: the median's own, and the error of the correction",
    ),
    Column(
        f"{_NAME}_ci_high",
        pa.float64(),
        "s",
        "Upper bound of its interval: the median's own, and the error of the correction",
    ),
)

# The curve's cost grows with the cube of the sentinels. Of more, neighbours are averaged, and
# between so many moments the curve is as good as straight.
_NUM_SENTINELS_MAX: Final = 300
_NUM_MOMENTS_MAX: Final = 1000


def sentinel_drift_fraction(table: pa.Table) -> float | None:
    """Return the relative change of a sentinel's latency from its first to its last time.

    `table` is one of `measurements`. The sentinel rows of one point in one run are a series in
    `order_index`; a Theil-Sen line (P. K. Sen, JASA 63, 1968), which single outliers do not bend,
    is laid through the logarithms. Of several series the largest change in size counts, with its
    sign. None: no point was measured twice or more as a sentinel. What goes up and comes down again
    shows in `sentinel_spread_fraction` only.
    """
    changes = []
    for each in (series.thinned(_NUM_SENTINELS_MAX) for series in sentinel_series(table)):
        slope = stats.theilslopes(each.log_latencies, each.order_indices).slope
        changes.append(float(np.expm1(slope * np.ptp(each.order_indices))))
    return max(changes, key=abs, default=None)


def sentinel_spread_fraction(table: pa.Table) -> float | None:
    """Return how far a sentinel's latencies lay apart: the highest over the lowest, less one.

    Nothing is smoothed: this is drift and scatter together, and what an uncorrected comparison of
    two points of the run may be wrong by. Of several series the largest counts; None as for
    `sentinel_drift_fraction`.
    """
    spreads = [float(np.expm1(np.ptp(each.log_latencies))) for each in sentinel_series(table)]
    return max(spreads, default=None)


def drift_corrected(table: pa.Table) -> pa.Table:
    """Return `table` with the columns `DRIFT_CORRECTED` at its end.

    The drift is a curve over time (`recorded_at`: points differ in length) through the sentinels of
    the same run, of whatever series, and 1 in its geometric mean over them. The interval joins the
    point's own with the error of the curve, and with what sentinels differ by beyond their own
    intervals, as independent errors; it is at the row's own `confidence`. A row before the first
    or after the last sentinel, or in a run with no series of two, is null. The uncorrected latency
    and its interval stay as measured.
    """
    seconds = moments(table)
    runs = np.array(table["run_id"].to_pylist(), dtype=object)
    log_drifts, log_errors = np.full((2, table.num_rows), np.nan)
    by_run: dict[str, list[int]] = {}
    series = sentinel_series(table)
    for index, each in enumerate(series):
        by_run.setdefault(each.run_id, []).append(index)
    for run_id, indices in by_run.items():
        all_seconds = np.concatenate([series[index].moments_seconds for index in indices])
        if np.ptp(all_seconds) == 0:
            continue  # rows that were all stamped at once know no order in time
        rows = (runs == run_id) & (seconds >= all_seconds.min()) & (seconds <= all_seconds.max())
        ours = [series[index].thinned(_NUM_SENTINELS_MAX // len(indices)) for index in indices]
        all_seconds = np.concatenate([each.moments_seconds for each in ours])
        at_seconds = np.unique(seconds[rows])
        if len(at_seconds) > _NUM_MOMENTS_MAX:
            at_seconds = np.quantile(at_seconds, np.linspace(0, 1, _NUM_MOMENTS_MAX))
        curve = drift_curve([each.without_strays() for each in ours], at_seconds, all_seconds)
        log_drifts[rows] = np.interp(seconds[rows], at_seconds, curve.log_drifts)
        log_errors[rows] = np.interp(seconds[rows], at_seconds, curve.log_errors)
    latency = reals(table, "latency_seconds")
    corrected = latency / np.exp(log_drifts)
    spread = errors_per_half_width(table) * log_errors
    bounds = [
        corrected * np.exp(sign * np.hypot(np.log(reals(table, name) / latency), spread))
        for sign, name in ((-1, "latency_seconds_ci_low"), (1, "latency_seconds_ci_high"))
    ]
    for column, values in zip(DRIFT_CORRECTED, (corrected, *bounds), strict=True):
        table = table.append_column(field(column), _nullable(values))
    return table


def _nullable(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, type=pa.float64(), mask=np.isnan(values))
