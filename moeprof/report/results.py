"""The measured steps of a dataset: one line per step, made by its slowest rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moeprof.analysis.drift import drift_corrected
from moeprof.cost.roofline import roofline_seconds
from moeprof.record import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

_STEP_KEYS = (
    "source",
    "device_name",
    "model",
    "hidden_size",
    "expert_size",
    "num_experts",
    "top_k",
    "kernel",
    "engine",
    "engine_version",
    "weight_dtype",
    "activation_dtype",
    "placement",
    "ep_size",
    "tp_size",
    "l2_state",
    "hold_celsius",
    "routing_pattern",
    "batch_size",
)


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step: its slowest rank's time is what every rank waits for (the makespan)."""

    source: str
    device_name: str
    model: str
    hidden_size: int
    expert_size: int
    num_experts: int
    top_k: int
    kernel: str
    engine: str | None
    engine_version: str | None
    weight_dtype: str
    activation_dtype: str | None
    placement: str
    ep_size: int | None
    tp_size: int
    l2_state: str
    hold_celsius: float | None
    routing_pattern: str
    batch_size: int
    status: str
    status_detail: str | None
    num_ranks: int
    num_active_experts: int
    flops: int
    latency_seconds: float | None
    latency_seconds_drift_corrected: float | None
    half_width_fraction: float | None
    energy_joules: float | None
    die_celsius: float | None
    throttled_fraction: float | None
    roofline_fraction: float | None


def step_lines(table: pa.Table, ceilings: Mapping[str, Mapping[str, Any]]) -> tuple[StepLine, ...]:
    """Return the points of a measured or simulated run as steps, in the order of kernel and batch.

    Imported runs, whose rows lack much of this, have `imported_summary`.
    `ceilings` gives `bytes_per_second` and `flops_per_second` by dtype.
    """
    steps: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in drift_corrected(table).to_pylist():
        if row["role"] == "point":
            steps.setdefault(tuple(row[key] for key in _STEP_KEYS), []).append(row)
    lines = [_line(key, rows, ceilings) for key, rows in steps.items()]
    return tuple(sorted(lines, key=_order))


def _order(line: StepLine) -> tuple[Any, ...]:
    hold = float("-inf") if line.hold_celsius is None else line.hold_celsius
    group = (line.source, line.device_name, line.model, line.weight_dtype, line.placement)
    return (*group, hold, line.kernel, line.routing_pattern, line.batch_size)


def _line(
    key: tuple[Any, ...],
    rows: Iterable[dict[str, Any]],
    ceilings: Mapping[str, Mapping[str, Any]],
) -> StepLine:
    rows = list(rows)
    working = [row for row in rows if row["num_rows"]] or rows
    # Everybody waits for the slowest rank, and for ever for one that gave nothing.
    missing = [row for row in working if row["latency_seconds"] is None]
    slowest = missing[0] if missing else max(working, key=lambda row: row["latency_seconds"])
    blemished = [row for row in working if row["status"] != Status.OK]
    telling = slowest if missing or not blemished else blemished[0]
    latency_seconds = slowest["latency_seconds"]
    half_width_fraction = roofline_fraction = None
    if latency_seconds and slowest["latency_seconds_ci_low"] is not None:
        width = slowest["latency_seconds_ci_high"] - slowest["latency_seconds_ci_low"]
        half_width_fraction = width / 2 / latency_seconds
    ceiling = ceilings.get(slowest["weight_dtype"])
    if latency_seconds and ceiling is not None:
        least = roofline_seconds(
            num_bytes=slowest["weight_bytes"] + slowest["activation_bytes"],
            flops=slowest["flops"],
            bytes_per_second=ceiling["bytes_per_second"],
            flops_per_second=ceiling["flops_per_second"],
        )
        roofline_fraction = least / latency_seconds
    energies = [row["energy_joules"] for row in working]
    whole = all(energy is not None for energy in energies)
    return StepLine(
        **dict(zip(_STEP_KEYS, key, strict=True)),
        status=telling["status"],
        status_detail=telling["status_detail"],
        num_ranks=len(rows),
        num_active_experts=slowest["num_active_experts"],
        flops=sum(row["flops"] for row in rows),
        latency_seconds=latency_seconds,
        latency_seconds_drift_corrected=slowest["latency_seconds_drift_corrected"],
        half_width_fraction=half_width_fraction,
        energy_joules=sum(energies) if whole else None,
        die_celsius=slowest["die_celsius"],
        throttled_fraction=slowest["throttled_fraction"],
        roofline_fraction=roofline_fraction,
    )
