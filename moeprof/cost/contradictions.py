"""Rows that contradict the memory they read from, or repeats of the same work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.contradiction import Contradiction, contradiction, log_ratio
from moeprof.cost.demand import datasheet_bytes_per_second, demand_of
from moeprof.cost.grouping import group_codes, group_medians, work_columns
from moeprof.hardware.catalogue import gpu, gpu_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points

# Room for datasheets that round, and clocks above what they are drawn up for.
_MEMORY_SLACK: Final = 0.1
_NUM_SIGMAS: Final = 3.0  # how many fewer experts than expected one draw may have been

# Repeats: six robust standard deviations of the table's own repeats, but no less than 10 %, which
# the best tables reach by chance, and no more than 30 %, which no table may call noise.
_REPEAT_SIGMAS: Final = 6.0
_REPEAT_LEAST: Final = float(np.log(1.1))
_REPEAT_MOST: Final = float(np.log(1.3))
_SIGMA_PER_MEDIAN: Final = 1.4826  # of absolute deviations that are normal


def faster_than_memory(points: Points, latency_seconds: NDArray[np.float64]) -> Contradiction:
    """Return rows faster than the datasheet's bandwidth reads the active experts' weights.

    What the L2 cache can keep need not be read. Where the number of active experts is an
    expectation, it may have been three standard deviations lower. 10 % are allowed.
    """
    active = points.occupancy.num_active
    local = np.ceil(points.num_experts / points.ep_size)
    spread = np.sqrt(np.maximum(active * (1 - active / local), 0))
    expected = active != np.rint(active)  # counted experts are whole
    least = np.where(expected, np.maximum(active - _NUM_SIGMAS * spread, 0), active)
    known = set(gpu_names())
    cached = points.gpu.numbers(lambda name: (gpu(name).l2_bytes or 0) if name in known else np.nan)
    num_bytes = np.maximum(demand_of(points, least).weight_bytes - cached, 0)
    floor = num_bytes / datasheet_bytes_per_second(points)
    excess = log_ratio(floor, latency_seconds)
    allowed = np.full(len(points), np.log1p(_MEMORY_SLACK))
    return contradiction(
        excess > allowed,
        (latency_seconds, floor, excess, allowed),
        unit="s",
        against="reading the weights takes at least",
    )


def repeats_disagree(points: Points, values: NDArray[np.float64], unit: str) -> Contradiction:
    """Return rows far from the median of all rows of identical work; of two, both.

    Work is identical where kernel, GPU, formats, sizes per rank and occupancy are, whatever the
    routing pattern is called. Allowed is what the table's other repeats vary by.
    """
    seen = np.isfinite(values) & (values > 0)
    index = np.flatnonzero(seen)
    work = group_codes(work_columns(points), index)
    logs = np.log(values[index])
    sizes = np.bincount(work)[work]
    median = group_medians(work, logs)[work]
    apart = np.abs(logs - median)
    repeated = sizes > 1
    noise = np.median(apart[repeated]) * _SIGMA_PER_MEDIAN if repeated.any() else 0.0
    threshold = float(np.clip(_REPEAT_SIGMAS * noise, _REPEAT_LEAST, _REPEAT_MOST))
    return contradiction(
        repeated & (apart > threshold),
        (values[index], np.exp(median), apart, np.full(len(index), threshold)),
        unit=unit,
        against="the median of its repeats is",
        index=index,
    )
