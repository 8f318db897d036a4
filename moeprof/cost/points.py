"""What a cost is a function of, and what was observed of it, as arrays over many points."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from moeprof.cost.columns import counts, first_row, reals
from moeprof.cost.labels import UNKNOWN, Labels, joined, labels_of
from moeprof.cost.row_counts import occupancy_of_table
from moeprof.errors import DatasetError
from moeprof.hardware.catalogue import gpu_names, gpu_of_device
from moeprof.record import Status
from moeprof.workload.dtypes import BYTES_PER_ELEMENT
from moeprof.workload.occupancy import Occupancy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_SIZES = ("hidden_size", "expert_size", "num_experts", "top_k", "batch_size")
_PROJECTIONS = 3  # an expert has a gate, an up and a down projection unless a row says otherwise
_USED = frozenset({Status.OK.value, Status.IMPRECISE.value})
_NO_LATENCY = "no_latency"


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Workloads, each under one condition, with one kernel on one GPU.

    Sizes and counts are [num_points] of int64, in elements, experts, tokens, ranks and
    projections. `gpu` is the catalogue's name where it has the GPU, else the device kind.
    `engine` joins the serving engine and its version; rows of our own sweeps have `moeprof`.
    Conditions are [num_points] of float64, NaN where not known: an array has no None.
    """

    kernel: Labels
    engine: Labels
    gpu: Labels
    weight_dtype: Labels
    activation_dtype: Labels
    routing_pattern: Labels
    hidden_size: NDArray[np.int64]
    expert_size: NDArray[np.int64]
    num_experts: NDArray[np.int64]
    top_k: NDArray[np.int64]
    batch_size: NDArray[np.int64]
    ep_size: NDArray[np.int64]
    tp_size: NDArray[np.int64]
    num_projections: NDArray[np.int64]
    occupancy: Occupancy
    die_celsius: NDArray[np.float64]
    sm_clock_hertz: NDArray[np.float64]
    power_limit_watts: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.batch_size)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Points:
        """Return some of the points, by their indices or by a mask [num_points]."""
        taken: dict[str, Any] = {}
        for field in fields(self):
            values = getattr(self, field.name)
            if isinstance(values, Labels):
                taken[field.name] = values.take(index)
            elif isinstance(values, Occupancy):
                taken[field.name] = Occupancy(
                    values.num_active[index],
                    values.num_rows[index],
                    values.max_rows[index],
                    values.tiles[index],
                )
            else:
                taken[field.name] = values[index]
        return Points(**taken)


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What points cost when they were measured, each [num_points]; NaN where absent."""

    latency_seconds: NDArray[np.float64]
    latency_seconds_ci_low: NDArray[np.float64]
    latency_seconds_ci_high: NDArray[np.float64]
    average_watts: NDArray[np.float64]
    energy_joules: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.latency_seconds)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Observed:
        """Return what was observed of some points, by their indices or by a mask [num_points]."""
        return Observed(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Usable:
    """The rows of a table that a cost can be fitted to, and how many were left out, and why.

    `rows`, [num_usable] of int64, says where they stand in the table they come from.
    `num_left_out` is by status; `no_latency` are rows of a good status without a latency.
    """

    table: pa.Table
    rows: NDArray[np.int64]
    num_left_out: Mapping[str, int]


def usable(table: pa.Table) -> Usable:
    """Return the rows with a finite latency above 0 whose status, if any, is ok or imprecise.

    Points and sentinels alike are used.

    Raises:
        DatasetError: there is no column latency_seconds, or it does not hold numbers.

    """
    if "latency_seconds" not in table.column_names:
        raise DatasetError(
            "column latency_seconds: is missing, and a cost cannot be fitted without it",
            hint=f"The table has {', '.join(table.column_names)}.",
        )
    latency = reals(table, "latency_seconds")
    measured = np.isfinite(latency) & (latency > 0)
    column = table["status"] if "status" in table.column_names else None
    status = labels_of(column, table.num_rows)
    used = [name in _USED or column is None for name in status.names]
    good = np.array(used, dtype=bool)[status.codes]
    left_out = {
        name: int((status.codes == code).sum())
        for code, name in enumerate(status.names)
        if name not in _USED and column is not None
    }
    if num_without := int((good & ~measured).sum()):
        left_out[_NO_LATENCY] = num_without
    rows = np.flatnonzero(good & measured)
    return Usable(table.take(pa.array(rows)), rows, left_out)


def observed_from_table(table: pa.Table) -> Observed:
    """Return what the rows of a table cost; a column that is not there is NaN throughout.

    Raises:
        DatasetError: a column does not hold numbers.

    """
    return Observed(*(reals(table, field.name) for field in fields(Observed)))


def points_from_table(table: pa.Table) -> Points:
    """Return the points that the rows of a table are, in its order.

    Only the layer's sizes, `batch_size`, `weight_dtype` and something that tells how rows fall on
    experts (see `row_counts`) must be there. Where there is none, `ep_size` and `tp_size` are 1,
    `num_projections` is 3, `activation_dtype` is that of the weights, `engine` is `moeprof`, and
    other texts are `unknown`.

    Raises:
        DatasetError: a column is missing or a value is impossible; the message has the row.

    """
    num = table.num_rows
    sizes = {name: counts(table, name) for name in _SIZES}
    ranks = {name: counts(table, name, absent=1) for name in ("ep_size", "tp_size")}
    projections = counts(table, "num_projections", absent=_PROJECTIONS)
    first_row(projections > _PROJECTIONS, "num_projections must be 1..3", projections)
    for name in ("top_k", "ep_size"):
        values = (sizes | ranks)[name]
        first_row(values > sizes["num_experts"], f"{name} must be at most num_experts", values)

    def text(name: str) -> Labels:
        return labels_of(table[name] if name in table.column_names else None, num)

    weights = _formats(text("weight_dtype"), "weight_dtype")
    activations = joined(
        text("activation_dtype"), weights, lambda own, other: other if own == UNKNOWN else own
    )
    return Points(
        kernel=text("kernel"),
        engine=joined(text("engine"), text("engine_version"), _engine_name),
        gpu=joined(text("device_kind"), text("device_name"), _gpu_name),
        weight_dtype=weights,
        activation_dtype=_formats(activations, "activation_dtype"),
        routing_pattern=text("routing_pattern"),
        **sizes,
        **ranks,
        num_projections=projections,
        occupancy=occupancy_of_table(table, sizes | ranks),
        die_celsius=reals(table, "die_celsius"),
        sm_clock_hertz=reals(table, "sm_clock_hertz"),
        power_limit_watts=reals(table, "power_limit_watts"),
    )


def _formats(labels: Labels, name: str) -> Labels:
    unknown = np.array([each not in BYTES_PER_ELEMENT for each in labels.names], dtype=bool)
    if unknown.any():
        known = ", ".join(BYTES_PER_ELEMENT)
        first_row(unknown[labels.codes], f"{name} must be one of {known}", labels.texts())
    return labels


def _engine_name(engine: str, version: str) -> str:
    if engine == UNKNOWN:
        return "moeprof"
    return engine if version == UNKNOWN else f"{engine} {version}"


def _gpu_name(device_kind: str, device_name: str) -> str:
    """Return the catalogue's name of `imported:h200-sxm` or of the vendor's device name."""
    name = device_kind.rpartition(":")[-1]
    if name in gpu_names():
        return name
    found = gpu_of_device(device_name)
    if found is not None:
        return found.name
    return device_name if device_kind == UNKNOWN else device_kind
