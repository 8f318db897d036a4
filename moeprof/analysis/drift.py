"""Drift of the device through a run, seen in its sentinels, and latencies corrected for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from moeprof.dataset.columns import Column
from moeprof.dataset.schema import field
from moeprof.record import Role

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRIFT_CORRECTED: Final = Column(
    "latency_seconds_drift_corrected",
    pa.float64(),
    "s",
    "Time of one launch (median), divided by the drift between the neighbouring sentinels",
)
_FEWEST_TO_SMOOTH: Final = 3


def sentinel_drift_fraction(table: pa.Table) -> float | None:
    """Return the relative change of a sentinel's latency from its first to its last time.

    `table` is one of `measurements`. The sentinel rows of one point in one run are a series in
    `order_index`; a Theil-Sen line (P. K. Sen, JASA 63, 1968), which single outliers do not bend,
    is laid through the logarithms. Of several series the largest change in size counts, with its
    sign. None: no point was measured twice or more as a sentinel. What goes up and comes down again
    shows in `sentinel_spread_fraction` only.
    """
    changes = [
        float(np.expm1(stats.theilslopes(log_latency, order).slope * np.ptp(order)))
        for _, order, log_latency in _sentinel_series(table, smooth=False)
    ]
    return max(changes, key=abs, default=None)


def sentinel_spread_fraction(table: pa.Table) -> float | None:
    """Return how far a sentinel's latencies lay apart: the highest over the lowest, less one.

    Nothing is smoothed: this is drift and scatter together, and what an uncorrected comparison of
    two points of the run may be wrong by. Of several series the largest counts; None as for
    `sentinel_drift_fraction`.
    """
    series = _sentinel_series(table, smooth=False)
    return max((float(np.expm1(np.ptp(log))) for _, _, log in series), default=None)


def drift_corrected(table: pa.Table) -> pa.Table:
    """Return `table` with a column `latency_seconds_drift_corrected` at its end.

    The drift at a sentinel is its smoothed latency over the median of its series, so that 1 is
    the run's own middle. Between the sentinels before and after a row, of whatever series of the
    same run, its logarithm is interpolated over `order_index`, and the latency divided by it. A
    row outside the first and last sentinel, or in a run with no drift series, is null. The
    uncorrected latency and its interval stay as measured.
    """
    latency = _reals(table, "latency_seconds")
    order = _reals(table, "order_index")
    runs = np.array(table["run_id"].to_pylist(), dtype=object)
    log_drift = np.full(table.num_rows, np.nan)
    series = list(_sentinel_series(table))
    for run_id in sorted({run for run, _, _ in series}):
        ours = [(at, log - np.median(log)) for run, at, log in series if run == run_id]
        at, position = np.unique(np.concatenate([at for at, _ in ours]), return_inverse=True)
        # Sentinels of two series may share a place in the order; their mean counts.
        total = np.bincount(position, weights=np.concatenate([log for _, log in ours]))
        rows = runs == run_id
        log_drift[rows] = np.interp(
            order[rows], at, total / np.bincount(position), left=np.nan, right=np.nan
        )
    corrected = latency / np.exp(log_drift)
    column = pa.array(corrected, type=pa.float64(), mask=np.isnan(corrected))
    return table.append_column(field(DRIFT_CORRECTED), column)


def _sentinel_series(
    table: pa.Table, *, smooth: bool = True
) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """Return (run_id, order_index, log latency) of each point measured as a sentinel."""
    treated = _smoothed if smooth else np.copy
    usable = pc.and_(
        pc.equal(table["role"], Role.SENTINEL.value), pc.greater(table["latency_seconds"], 0.0)
    )
    names = ["run_id", "point_id", "order_index", "latency_seconds"]
    sentinels = (
        table.select(names)
        .filter(usable)
        .sort_by([("run_id", "ascending"), ("point_id", "ascending"), ("order_index", "ascending")])
    )
    order, log_latency = _reals(sentinels, "order_index"), np.log(_reals(sentinels, names[-1]))
    owners = list(
        zip(sentinels["run_id"].to_pylist(), sentinels["point_id"].to_pylist(), strict=True)
    )
    borders = [i for i in range(1, len(owners)) if owners[i] != owners[i - 1]]
    return [
        (owners[start][0], order[start:end], treated(log_latency[start:end]))
        for start, end in zip([0, *borders], [*borders, len(owners)], strict=True)
        if end - start > 1
    ]


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running median of three, with Tukey's rule at both ends (EDA, 1977, ch. 7).

    Unlike a mean it lets steps be, and unlike a bare median it lets straight drift be.
    """
    if len(values) < _FEWEST_TO_SMOOTH:
        return values
    smooth = values.copy()
    smooth[1:-1] = np.median(np.lib.stride_tricks.sliding_window_view(values, 3), axis=1)
    smooth[0] = np.median([values[0], smooth[1], 3 * smooth[1] - 2 * smooth[2]])
    smooth[-1] = np.median([values[-1], smooth[-2], 3 * smooth[-2] - 2 * smooth[-3]])
    return smooth


def _reals(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column as floats, null as NaN."""
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)
