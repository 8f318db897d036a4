"""Every column of the measurements and samples tables, with its type, unit and meaning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_UNIT: Final = "none"  # texts, flags and numberings
SHARE: Final = "1"  # a number without dimension


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `unit` is an SI symbol, a count's noun, `1` for a share, or `none`.

    `since` is the schema version that it came with; older files read as null there.
    """

    name: str
    type: pa.DataType
    unit: str
    description: str
    nullable: bool = True
    since: int = 1


def _required(columns: Iterable[Column]) -> tuple[Column, ...]:
    return tuple(
        Column(column.name, column.type, column.unit, column.description, nullable=False)
        for column in columns
    )


def _text(name: str, description: str) -> Column:
    return Column(name, pa.string(), NO_UNIT, description)


def _whole(name: str, unit: str, description: str) -> Column:
    return Column(name, pa.int64(), unit, description)


def _real(name: str, unit: str, description: str) -> Column:
    return Column(name, pa.float64(), unit, description)


def _since_2(column: Column) -> Column:
    return replace(column, since=2)


def _since_3(column: Column) -> Column:
    return replace(column, since=3)


def _since_4(column: Column) -> Column:
    return replace(column, since=4)


def _size(name: str, description: str) -> Column:
    return _whole(name, "elements", description)


_KEYS: Final = _required(
    [
        _text("run_id", "The run that measured it: run-<run_id>.json beside the folders"),
        _text("point_id", "Stable hash of workload, condition, kernel and device kind"),
        _whole("order_index", NO_UNIT, "Place in the run's randomised order; a step's ranks share"),
        _whole("ep_rank", NO_UNIT, "Rank within the expert-parallel group, from 0"),
    ]
)
_RUN_ID, _POINT_ID, _ORDER_INDEX, _EP_RANK = _KEYS

_IDENTITY: Final = (
    _POINT_ID,
    _RUN_ID,
    _ORDER_INDEX,
    *_required(
        [
            _text("role", "point (of the recipe) or sentinel (measured again to see drift)"),
            _text("status", "ok, imprecise, or why there is no latency"),
        ]
    ),
    _text("status_detail", "What exactly was refused or failed"),
    *_required(
        [
            _text("source", "measured, simulated or imported"),
            _text("device_kind", "What rows are grouped by: cuda, cpu, sim:<name>, imported:<GPU>"),
            _text("device_name", "The device's name as its vendor gives it"),
        ]
    ),
    _text("device_uuid", "Which device exactly; null where the source does not say"),
    *_required(
        [
            _text("kernel", "The expert kernel as it was asked for; of auto, kernel_choice ran"),
            Column(
                "recorded_at",
                pa.timestamp("us", tz="UTC"),
                NO_UNIT,
                "When the point was finished; of an imported point, when it was imported",
            ),
        ]
    ),
    _since_3(_text("engine", "The serving engine that ran the kernel: vllm, sglang, trtllm, ...")),
    _since_3(_text("engine_version", "Its version")),
    _since_4(
        _text(
            "kernel_choice", "Inner kernel or variant that ran, of auto: kernel or kernel/variant"
        )
    ),
    _since_4(_text("kernel_version", "Version of the library that kernel_choice comes from")),
    _since_4(_text("kernel_config_file", "Name of the tuned settings that decided on it")),
)

_WORKLOAD: Final = (
    _text("model", "The model whose layer this is"),
    _size("hidden_size", "Hidden size d"),
    _size("expert_size", "Intermediate size f of the whole expert, before tensor parallelism"),
    _whole("num_experts", "experts", "Routed experts E of the layer"),
    _whole("top_k", "experts", "Experts per token k"),
    _text("weight_dtype", "Number format of the expert weights"),
    _text("activation_dtype", "Number format of the activations"),
    _whole("batch_size", "tokens", "Tokens of the step over all ranks of the group"),
    _whole("ep_size", "ranks", "Ranks of the expert-parallel group"),
    _EP_RANK,
    _whole("tp_size", "ranks", "Ranks that hold a slice of every expert each"),
    _text("placement", "Which expert sits on which rank"),
    _text("routing_pattern", "How tokens fall on experts, in canonical form"),
    _whole("routing_seed", NO_UNIT, "Seed of the routing draw"),
    _whole("num_local_experts", "experts", "Expert slots on this rank, replicas included"),
    _whole("num_active_experts", "experts", "Local experts with at least one row"),
    _whole("num_rows", "rows", "(token, expert) pairs on this rank"),
    _whole("max_rows_per_expert", "rows", "Rows of the fullest local expert"),
    Column("rows_per_expert", pa.list_(pa.int32()), "rows", "Rows of each local expert slot"),
    _whole("weight_bytes", "B", "Bytes of the active experts' weights, each read once"),
    _whole("activation_bytes", "B", "Bytes of rows read and written"),
    _whole("flops", "FLOP", "Floating-point operations of all projections"),
    _text("l2_state", "cold: buffers rotate through at least 5x the L2 cache; else warm"),
    _since_3(
        _whole("num_projections", "projections", "Of an expert: 3 with a gate, 2 without one")
    ),
    _since_3(
        Column(
            "rows_reconstructed",
            pa.bool_(),
            NO_UNIT,
            "Whether row counts are the rounded expectation of a named pattern, not recorded",
        )
    ),
)

_CONDITION: Final = (
    _real("hold_celsius", "degC", "Die temperature asked for; null: none was held"),
    _real("warm_up_seconds", "s", "Warm-up done before the run's points"),
    Column(
        "warm_up_steady",
        pa.bool_(),
        NO_UNIT,
        "Whether the warm-up ended in a steady state; null: not tested",
    ),
    _real("die_celsius", "degC", "Die temperature while timing (mean)"),
    _real("die_celsius_start", "degC", "Die temperature as timing began"),
    _real("die_celsius_end", "degC", "Die temperature as timing ended"),
    _real("memory_celsius", "degC", "Memory temperature"),
    _real("sm_clock_hertz", "Hz", "Multiprocessor clock while timing"),
    _real("sm_clock_hertz_min", "Hz", "Lowest multiprocessor clock seen while timing"),
    _real("memory_clock_hertz", "Hz", "Memory clock"),
    _real("power_limit_watts", "W", "Power limit in force"),
    Column(
        "clock_event_reasons",
        pa.list_(pa.string()),
        NO_UNIT,
        "Why clocks were below the highest, sorted; empty: no reason; null: not known",
    ),
    _real("throttled_fraction", SHARE, "Share of the samples that were throttled"),
    _since_2(_real("sm_clock_hertz_max", "Hz", "Highest multiprocessor clock seen while timing")),
    _since_2(
        Column(
            "throttle_events",
            pa.list_(
                pa.struct(
                    [
                        ("start_seconds", pa.float64()),
                        ("end_seconds", pa.float64()),
                        ("cause", pa.string()),
                        ("told", pa.bool_()),
                    ]
                )
            ),
            NO_UNIT,
            "When throttled, in seconds of the timing, and why; told: the device named the cause",
        )
    ),
)

_RESULT: Final = (
    _real("latency_seconds", "s", "Time of one launch (median)"),
    _real("latency_seconds_ci_low", "s", "Lower bound of the median's confidence interval"),
    _real("latency_seconds_ci_high", "s", "Upper bound of the median's confidence interval"),
    _real("latency_seconds_p10", "s", "10th percentile of the samples"),
    _real("latency_seconds_p90", "s", "90th percentile of the samples"),
    _real("latency_seconds_p99", "s", "99th percentile of the samples"),
    _whole("num_samples", "samples", "Samples kept"),
    _whole("num_launches", "launches", "Launches behind the samples"),
    _whole("num_rejected", "samples", "Samples rejected, each for a named reason"),
    _real("confidence", SHARE, "Confidence of the latency's interval, 0..1"),
    _real("energy_joules", "J", "Energy of one launch, idle power included"),
    _real("energy_joules_ci_low", "J", "Lower bound of the energy's 95 % interval"),
    _real("energy_joules_ci_high", "J", "Upper bound of the energy's 95 % interval"),
    _real("average_watts", "W", "Average power over the energy window"),
    _real("idle_watts", "W", "Power without work at idle_celsius: idle power and leakage"),
    _since_2(_real("idle_celsius", "degC", "Die temperature that idle_watts is of")),
    _since_2(_real("rest_celsius", "degC", "Die temperature that idle_joules is of")),
    _since_2(
        _real("leakage_watts_per_celsius", "W/degC", "How idle_watts grows with die temperature")
    ),
    *(
        _since_2(_real(f"{part}_joules{bound}", "J", f"{what} of one launch{of_bound}"))
        for part, what in (
            ("idle", "Idle energy at the temperature of rest"),
            ("leakage", "Leakage of a warm die beyond the temperature of rest"),
            ("dynamic", "Energy of the work, without idle power and leakage"),
        )
        for bound, of_bound in (
            ("", ""),
            ("_ci_low", ": lower bound of the 95 % interval"),
            ("_ci_high", ": upper bound of the 95 % interval"),
        )
    ),
    _text("energy_source", "nvml_counter, nvml_power, rapl, simulated or imported"),
    _text("energy_absent_reason", "Why energy_joules is null where something was measured"),
    _since_2(
        _text("energy_parts_absent_reason", "Why idle_, leakage_ and dynamic_joules are null")
    ),
)

MEASUREMENT_COLUMNS: Final = _IDENTITY + _WORKLOAD + _CONDITION + _RESULT

SAMPLE_COLUMNS: Final = (
    *_KEYS,
    *_required(
        [
            _whole("sample_index", NO_UNIT, "Place among the point's samples, from 0"),
            _real("latency_seconds", "s", "Time of one launch"),
        ]
    ),
    _real("die_celsius", "degC", "Die temperature when the sample was taken"),
    _real("sm_clock_hertz", "Hz", "Multiprocessor clock when the sample was taken"),
    _real("watts", "W", "Power when the sample was taken"),
    *_required([Column("throttled", pa.bool_(), NO_UNIT, "Whether the device was throttled")]),
    _since_2(_text("throttle_cause", "Why it was throttled; null: it was not, or nobody knows")),
)
