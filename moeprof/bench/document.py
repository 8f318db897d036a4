"""A bench as plain values: one JSON document, and a table with a row per kernel and point."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from moeprof.bench.targets import targets

if TYPE_CHECKING:
    from moeprof.bench.result import BenchPoint, BenchReport, BenchRow
    from moeprof.record import Interval
    from moeprof.workload.workload import Workload

SCHEMA: Final = 1

_TEXT, _COUNT, _REAL = pa.string(), pa.int64(), pa.float64()
COLUMNS: Final = pa.schema(
    [
        *((name, _TEXT) for name in ("model", "kernel", "weight_dtype", "routing_pattern")),
        *((name, _COUNT) for name in ("hidden_size", "expert_size", "num_experts", "top_k")),
        *((name, _COUNT) for name in ("batch_size", "num_active_experts", "num_rows")),
        *((name, _COUNT) for name in ("max_rows_per_expert", "touched_bytes")),
        *((name, _TEXT) for name in ("status", "detail", "l2_state")),
        *((name, _REAL) for name in ("latency_seconds", "latency_seconds_ci_low")),
        ("latency_seconds_ci_high", _REAL),
        ("bytes_per_second", _REAL),
        *((name, _REAL) for name in ("bandwidth_fraction", "bandwidth_fraction_ci_low")),
        ("bandwidth_fraction_ci_high", _REAL),
        ("ceiling_bytes_per_second", _REAL),
        ("ceiling_source", _TEXT),
        ("num_samples", _COUNT),
        *((name, _TEXT) for name in ("kernel_choice", "kernel_version", "kernel_config_file")),
        ("device", _TEXT),
    ]
)


def document_of(report: BenchReport) -> dict[str, Any]:
    """Return the whole bench, raw samples included; every number in it is finite."""
    return {
        "schema": SCHEMA,
        "device": asdict(report.device),
        "versions": report.versions,
        "wall_seconds": report.wall_seconds,
        "lost": report.lost,
        "no_ceiling_reason": report.no_ceiling_reason,
        "left_out": [_workload(each) for each in report.left_out],
        "points": [_point(each) for each in report.points],
        "targets": [asdict(each) for each in targets(report)],
    }


def table_of(report: BenchReport) -> pa.Table:
    """Return a row for every kernel at every point, with the columns COLUMNS."""
    rows = [
        _flat(point, row) | {"device": report.device.name}
        for point in report.points
        for row in point.rows
    ]
    return pa.Table.from_pylist(rows, schema=COLUMNS)


def _workload(workload: Workload) -> dict[str, Any]:
    layer = workload.layer
    return {
        "model": workload.model,
        "weight_dtype": workload.weight_dtype,
        "routing_pattern": workload.routing_pattern,
        "hidden_size": layer.hidden_size,
        "expert_size": layer.expert_size,
        "num_experts": layer.num_experts,
        "top_k": layer.top_k,
        "batch_size": workload.batch_size,
        "num_active_experts": workload.num_active_experts,
        "num_rows": workload.num_rows,
        "max_rows_per_expert": workload.max_rows_per_expert,
    }


def _point(point: BenchPoint) -> dict[str, Any]:
    return {
        **_workload(point.workload),
        "touched_bytes": point.touched_bytes,
        "ceiling": None if point.ceiling is None else asdict(point.ceiling),
        "die_celsius": point.die_celsius,
        "sm_clock_hertz": point.sm_clock_hertz,
        "rows": [asdict(row) for row in point.rows],
        "comparisons": [asdict(each) for each in point.comparisons if each.kernel < each.other],
    }


def _flat(point: BenchPoint, row: BenchRow) -> dict[str, Any]:
    return {
        **_workload(point.workload),
        "touched_bytes": point.touched_bytes,
        "kernel": row.kernel,
        "status": row.status.value,
        "detail": row.detail,
        "l2_state": row.l2_state,
        **_bounds("latency_seconds", row.latency),
        "bytes_per_second": row.bytes_per_second,
        **_bounds("bandwidth_fraction", row.bandwidth_fraction),
        "ceiling_bytes_per_second": point.ceiling and point.ceiling.bytes_per_second,
        "ceiling_source": point.ceiling and point.ceiling.source,
        "num_samples": len(row.samples),
        "kernel_choice": row.choice.kernel,
        "kernel_version": row.choice.version,
        "kernel_config_file": row.choice.config_file,
    }


def _bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None, f"{name}_ci_low": None, f"{name}_ci_high": None}
    return {
        name: interval.estimate,
        f"{name}_ci_low": interval.low,
        f"{name}_ci_high": interval.high,
    }
