"""Columns of `measurements` as the arrays that statistics take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from scipy.special import ndtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MICROSECONDS_PER_SECOND: Final = 1e6
_USUAL_CONFIDENCE: Final = 0.95


def reals(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column as floats, null as NaN."""
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)


def moments(table: pa.Table) -> NDArray[np.float64]:
    """Return when each row was finished, in seconds since the earliest row of the table was."""
    # Seconds since the Unix epoch would not keep microseconds in a float.
    microseconds = table["recorded_at"].cast(pa.int64()).to_numpy()
    elapsed = microseconds - microseconds.min(initial=np.iinfo(np.int64).max)
    return np.asarray(elapsed / _MICROSECONDS_PER_SECOND, dtype=np.float64)


def errors_per_half_width(table: pa.Table) -> NDArray[np.float64]:
    """Return how many standard errors half of each row's latency interval is; NaN: it has none."""
    confidence = np.nan_to_num(reals(table, "confidence"), nan=_USUAL_CONFIDENCE)
    claimed = np.where(confidence > 0, confidence, np.nan)
    return np.asarray(ndtri((1 + claimed) / 2), dtype=np.float64)


def log_errors(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return the standard error of the logarithm of a column with an interval; NaN: not known.

    The interval of `latency_seconds` is at the row's `confidence`, every other at 95 %.
    """
    low, high = reals(table, f"{name}_ci_low"), reals(table, f"{name}_ci_high")
    usable = (low > 0) & (high >= low)
    errors = np.full(len(low), np.nan)
    errors[usable] = np.log(high[usable] / low[usable]) / 2
    if name != "latency_seconds":
        return np.asarray(errors / ndtri((1 + _USUAL_CONFIDENCE) / 2), dtype=np.float64)
    return errors / errors_per_half_width(table)
