"""Imported points as columns: each judged, completed from its shape and pattern, and named."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from moeprof.dataset.columns import MEASUREMENT_COLUMNS
from moeprof.dataset.importers.rows import fill_row_counts
from moeprof.dataset.schema import MEASUREMENTS
from moeprof.hardware.catalogue import gpu_of_device
from moeprof.record import Role, Source, Status
from moeprof.workload.dtypes import BYTES_PER_ELEMENT
from moeprof.workload.workload import FLOPS_PER_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

SIZES: Final = ("hidden_size", "expert_size", "num_experts", "top_k", "batch_size")
GROUPS: Final = ("ep_size", "tp_size")
_POINT_DIGITS: Final = 16
# What makes a point the same point when it is imported again, measured twice or elsewhere.
_ENTERING: Final = (
    *("model", "routing_pattern", *SIZES, *GROUPS, "num_projections", "weight_dtype"),
    *("activation_dtype", "placement", "num_active_experts", "num_rows", "max_rows_per_expert"),
    *("hold_celsius", "l2_state", "kernel", "engine", "engine_version", "device_name"),
)


@dataclass(slots=True)
class Points:
    """Imported points by column, each [num_points]; a column that is not there is null.

    `texts` holds lists of str or None, `numbers` float64 arrays in which NaN is null. Whole
    numbers are held as float64 too, which is exact up to 2^53.
    """

    num_points: int
    texts: dict[str, Sequence[str | None]] = field(default_factory=dict)
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    flags: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    status: list[str] = field(init=False)
    detail: list[str | None] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with every point in order."""
        self.status = [Status.OK.value] * self.num_points
        self.detail = [None] * self.num_points

    def number(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers, all NaN where there is none."""
        return self.numbers.get(name, np.full(self.num_points, np.nan))

    def text(self, name: str) -> Sequence[str | None]:
        """Return a column of texts, all None where there is none."""
        return self.texts.get(name, [None] * self.num_points)

    def sound(self) -> NDArray[np.bool_]:
        """Return which points have no fault so far."""
        return np.array([status == Status.OK for status in self.status], dtype=bool)

    def refuse(
        self, faulty: NDArray[np.bool_], detail: str, status: Status = Status.FAILED
    ) -> None:
        """Give the faulty points a status and a reason; a point keeps its first."""
        for index in np.flatnonzero(faulty).tolist():
            if self.detail[index] is None:
                self.status[index], self.detail[index] = status.value, detail


def judge(points: Points) -> None:
    """Refuse points that cannot be used: impossible shapes, unknown formats, no latency."""
    for name in (*SIZES, *GROUPS):
        values = points.number(name)
        points.refuse(
            ~(values >= 1) | (values != np.rint(values)),
            f"{name} must be a whole number of at least 1",
        )
    top_k, experts = points.number("top_k"), points.number("num_experts")
    points.refuse(top_k > experts, "top_k must be at most num_experts")
    points.refuse(points.number("ep_size") > experts, "ep_size must be at most num_experts")
    for name in ("weight_dtype", "activation_dtype"):
        column = points.text(name)
        for dtype in sorted({each for each in column if each is not None} - set(BYTES_PER_ELEMENT)):
            faulty = np.array([each == dtype for each in column], dtype=bool)
            points.refuse(faulty, f"{name} {dtype!r} is not known", Status.UNSUPPORTED)
    without = np.array([each is None for each in points.text("weight_dtype")], dtype=bool)
    points.refuse(without, "there is no weight_dtype", Status.UNSUPPORTED)
    latency = points.number("latency_seconds")
    points.refuse(
        ~(np.isfinite(latency) & (latency > 0)), "the latency is missing, not finite or not above 0"
    )


def complete(points: Points) -> None:
    """Fill in row counts, bytes and FLOPs of the sound points, and energy where there is power.

    Bytes and FLOPs follow from the expected counts before they are rounded.
    """
    sound = points.sound()
    exact = fill_row_counts(points, sound)
    numbers = points.numbers
    local_size = points.number("expert_size") / points.number("tp_size")
    hidden = points.number("hidden_size")
    weights = numbers["num_projections"] * hidden * local_size
    weight_bytes = _bytes_per_element(points.text("weight_dtype"))
    activation_bytes = _bytes_per_element(points.text("activation_dtype"))
    numbers["weight_bytes"] = np.rint(exact.num_active * weights * weight_bytes)
    numbers["activation_bytes"] = np.rint(
        exact.num_rows * 2 * (hidden + local_size) * activation_bytes
    )
    numbers["flops"] = np.rint(FLOPS_PER_WEIGHT * weights * exact.num_rows)
    numbers["num_local_experts"] = np.ceil(points.number("num_experts") / points.number("ep_size"))
    watts = points.number("average_watts")
    numbers["average_watts"] = np.where(np.isfinite(watts) & (watts > 0), watts, np.nan)
    joules = numbers["average_watts"] * points.number("latency_seconds")
    numbers["energy_joules"] = np.where(
        np.isfinite(points.number("energy_joules")), points.number("energy_joules"), joules
    )
    refused = ~points.sound()
    for name in ("latency_seconds", "energy_joules"):
        numbers[name] = np.where(refused, np.nan, numbers[name])
    known = np.isfinite(numbers["energy_joules"]).tolist()
    points.texts["energy_source"] = [Source.IMPORTED.value if each else None for each in known]
    points.texts["energy_absent_reason"] = [
        None if each or lost else "the source has no power"
        for each, lost in zip(known, refused.tolist(), strict=True)
    ]


def to_table(points: Points, *, run_id: str, recorded_at: datetime) -> pa.Table:
    """Return the points as a table of the measurements schema, in their order."""
    num = points.num_points
    names = points.text("device_name")
    kinds = {name: device_kind(name or "unknown") for name in set(names)}
    fixed: dict[str, Any] = {
        "run_id": run_id,
        "role": Role.POINT.value,
        "source": Source.IMPORTED.value,
        "recorded_at": recorded_at,
        "ep_rank": 0,
    }
    made: dict[str, Any] = {
        "order_index": np.arange(num),
        "point_id": _point_ids(points),
        "status": points.status,
        "status_detail": points.detail,
        "device_kind": [kinds[name] for name in names],
    }
    arrays = []
    for column in MEASUREMENT_COLUMNS:
        name, kind = column.name, column.type
        if name in fixed:
            array = pa.repeat(pa.scalar(fixed[name], type=kind), num)
        elif name in made:
            array = pa.array(made[name], type=kind)
        elif name in points.flags:
            array = pa.array(points.flags[name], type=kind)
        elif name in points.numbers:
            values = points.numbers[name]
            absent = ~np.isfinite(values)
            whole = np.where(absent, 0.0, values) if pa.types.is_integer(kind) else values
            array = pa.array(whole, mask=absent).cast(kind)
        elif name in points.texts:
            array = pa.array(points.texts[name], type=kind)
        else:
            array = pa.nulls(num, kind)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=MEASUREMENTS)


def device_kind(device_name: str) -> str:
    """Return what imported rows of a device are grouped by, as `imported:h200-sxm`.

    The name behind the colon is the GPU's in the catalogue, or one made of the device's own.
    """
    found = gpu_of_device(device_name)
    if found is not None:
        return f"imported:{found.name}"
    plain = "".join(each if each.isalnum() else " " for each in device_name.lower())
    return f"imported:{'-'.join(plain.split())}"


def _bytes_per_element(dtypes: Sequence[str | None]) -> NDArray[np.float64]:
    known = {name: BYTES_PER_ELEMENT.get(name or "", np.nan) for name in set(dtypes)}
    return np.array([known[name] for name in dtypes], dtype=np.float64)


def _point_ids(points: Points) -> list[str]:
    columns: list[Sequence[Any]] = []
    for name in _ENTERING:
        values = points.numbers.get(name)
        columns.append(points.text(name) if values is None else values.tolist())
    return [
        hashlib.sha256(repr(row).encode()).hexdigest()[:_POINT_DIGITS]
        for row in zip(*columns, strict=True)
    ]
