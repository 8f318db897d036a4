"""Rows of the dataset, made from what was measured and what it was measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from moeprof.dataset.schema import Row
    from moeprof.device.protocol import DeviceIdentity
    from moeprof.record import (
        ClockEvent,
        Condition,
        Energy,
        Interval,
        Latency,
        Outcome,
        Role,
        Source,
    )
    from moeprof.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class RowIdentity:
    """Which point of which run a row is; `recorded_at` must know its time zone."""

    point_id: str
    run_id: str
    order_index: int
    role: Role
    source: Source
    device: DeviceIdentity
    kernel: str
    recorded_at: datetime

    def __post_init__(self) -> None:
        """Refuse a time without a zone, which Arrow would take for UTC."""
        assert self.recorded_at.tzinfo is not None


def measurement_row(identity: RowIdentity, workload: Workload, outcome: Outcome) -> Row:
    """Return one row of `measurements`; what was not measured is None."""
    return {
        "point_id": identity.point_id,
        "run_id": identity.run_id,
        "order_index": identity.order_index,
        "role": identity.role.value,
        "status": outcome.status.value,
        "status_detail": outcome.detail,
        "source": identity.source.value,
        "device_kind": identity.device.kind,
        "device_name": identity.device.name,
        "device_uuid": identity.device.uuid or None,
        "kernel": identity.kernel,
        "recorded_at": identity.recorded_at,
        "engine": None,
        "engine_version": None,
        "kernel_choice": outcome.kernel_choice,
        "kernel_version": outcome.kernel_version,
        "kernel_config_file": outcome.kernel_config_file,
        **_workload(workload),
        **_condition(outcome.condition),
        **_latency(outcome.latency),
        **_energy(outcome.energy),
    }


def sample_rows(identity: RowIdentity, workload: Workload, outcome: Outcome) -> list[Row]:
    """Return one row of `samples` for each raw sample; none where nothing was timed."""
    if outcome.latency is None:
        return []
    return [
        {
            "run_id": identity.run_id,
            "point_id": identity.point_id,
            "order_index": identity.order_index,
            "ep_rank": workload.ep_rank,
            "sample_index": index,
            "latency_seconds": sample.latency_seconds,
            "die_celsius": sample.die_celsius,
            "sm_clock_hertz": sample.sm_clock_hertz,
            "watts": sample.watts,
            "throttled": sample.throttled,
            "throttle_cause": _named(sample.throttle_cause),
        }
        for index, sample in enumerate(outcome.latency.samples)
    ]


def _workload(workload: Workload) -> Row:
    layer = workload.layer
    return {
        "model": workload.model,
        "hidden_size": layer.hidden_size,
        "expert_size": layer.expert_size,
        "num_experts": layer.num_experts,
        "top_k": layer.top_k,
        "weight_dtype": workload.weight_dtype,
        "activation_dtype": workload.activation_dtype,
        "batch_size": workload.batch_size,
        "ep_size": workload.ep_size,
        "ep_rank": workload.ep_rank,
        "tp_size": workload.tp_size,
        "placement": workload.placement,
        "routing_pattern": workload.routing_pattern,
        "routing_seed": workload.routing_seed,
        "num_local_experts": workload.num_local_experts,
        "num_active_experts": workload.num_active_experts,
        "num_rows": workload.num_rows,
        "max_rows_per_expert": workload.max_rows_per_expert,
        "rows_per_expert": list(workload.rows_per_expert),
        "weight_bytes": workload.weight_bytes,
        "activation_bytes": workload.activation_bytes,
        "flops": workload.flops,
        "num_projections": _NUM_PROJECTIONS,
        "rows_reconstructed": False,
    }


def _condition(condition: Condition | None) -> Row:
    if condition is None:
        return dict.fromkeys((*_CONDITION, "clock_event_reasons", "throttle_events"))
    events = condition.clock_events
    return {
        **{name: getattr(condition, name) for name in _CONDITION},
        "clock_event_reasons": None if events is None else sorted(event.value for event in events),
        "throttle_events": [
            {
                "start_seconds": each.start_seconds,
                "end_seconds": each.end_seconds,
                "cause": _named(each.cause),
                "told": each.told,
            }
            for each in condition.throttle_events
        ],
    }


def _named(event: ClockEvent | None) -> str | None:
    return None if event is None else event.value


def _latency(latency: Latency | None) -> Row:
    if latency is None:
        return dict.fromkeys(_LATENCY)
    claimed = latency.median.confidence > 0  # one sample has no interval
    return {
        "latency_seconds": latency.median.estimate,
        "latency_seconds_ci_low": latency.median.low if claimed else None,
        "latency_seconds_ci_high": latency.median.high if claimed else None,
        "latency_seconds_p10": latency.p10_seconds,
        "latency_seconds_p90": latency.p90_seconds,
        "latency_seconds_p99": latency.p99_seconds,
        "num_samples": len(latency.samples),
        "num_launches": latency.num_launches,
        "num_rejected": latency.num_rejected,
        "confidence": latency.median.confidence if claimed else None,
    }


def _energy(energy: Energy | None) -> Row:
    per_launch = None if energy is None else energy.per_launch
    parts = None if energy is None else energy.parts
    return {
        **_joules("idle", None if parts is None else parts.idle),
        **_joules("leakage", None if parts is None else parts.leakage),
        **_joules("dynamic", None if parts is None else parts.dynamic),
        "energy_parts_absent_reason": None if parts is None else parts.absent_reason,
        "energy_joules": None if per_launch is None else per_launch.estimate,
        "energy_joules_ci_low": None if per_launch is None else per_launch.low,
        "energy_joules_ci_high": None if per_launch is None else per_launch.high,
        "average_watts": None if energy is None else energy.average_watts,
        "energy_source": None if energy is None else energy.source,
        "energy_absent_reason": None if energy is None else energy.absent_reason,
    }


def _joules(part: str, interval: Interval | None) -> Row:
    return {
        f"{part}_joules": None if interval is None else interval.estimate,
        f"{part}_joules_ci_low": None if interval is None else interval.low,
        f"{part}_joules_ci_high": None if interval is None else interval.high,
    }


_NUM_PROJECTIONS = 3  # the experts of a MoELayer are gated
_CONDITION = (
    "l2_state",
    "hold_celsius",
    "warm_up_seconds",
    "warm_up_steady",
    "die_celsius",
    "die_celsius_start",
    "die_celsius_end",
    "memory_celsius",
    "sm_clock_hertz",
    "sm_clock_hertz_min",
    "memory_clock_hertz",
    "power_limit_watts",
    "idle_watts",
    "rest_celsius",
    "idle_celsius",
    "leakage_watts_per_celsius",
    "throttled_fraction",
    "sm_clock_hertz_max",
)
_LATENCY = (
    "latency_seconds",
    "latency_seconds_ci_low",
    "latency_seconds_ci_high",
    "latency_seconds_p10",
    "latency_seconds_p90",
    "latency_seconds_p99",
    "num_samples",
    "num_launches",
    "num_rejected",
    "confidence",
)
