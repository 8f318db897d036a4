"""What a degree of die temperature does to latency and power, with intervals and causes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow.compute as pc

from moeprof.analysis.block_slope import BlockRows, BlockSlope, block_slope
from moeprof.analysis.held_blocks import block_codes
from moeprof.analysis.rows import log_errors, moments, reals
from moeprof.analysis.thermal_cause import ThermalCause, thermal_cause
from moeprof.record import ClockEvent, Interval, Status

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

# Rows that did not come to their temperature have one all the same, and it is what counts here.
_MEASURED: Final = (Status.OK, Status.IMPRECISE, Status.TEMPERATURE_NOT_REACHED)
_GROUP: Final = (
    "source", "device_kind", "device_uuid", "kernel", "model", "weight_dtype", "activation_dtype",
    "l2_state",
)  # fmt: skip
# A point apart from its temperature; one level each, in every run.
_POINT: Final = (
    "run_id", "hidden_size", "expert_size", "num_experts", "top_k", "batch_size", "ep_size",
    "ep_rank", "tp_size", "placement", "routing_pattern", "routing_seed",
)  # fmt: skip
# Blocks of a run from which on its drift is taken to be straight, and to be bent.
_BLOCKS_PER_DRIFT_POWER: Final = (5, 8)
_FEWEST_BLOCKS: Final = 3
# Leakage grows exponentially: from so many on, power may bend, and its slope is that in the middle.
_FEWEST_BLOCKS_TO_BEND: Final = 8
_FEWEST_HOLDS_TO_BEND: Final = 3
_LEAST_SPAN_CELSIUS: Final = 2.0
# Floors of what two measurements of one point differ by, so that no row outweighs all others.
_LEAST_ERROR_FRACTION: Final = 1e-4
_UNKNOWN_ERROR_FRACTION: Final = 1e-2
_AT_LIMIT_FRACTION: Final = 0.98
_NEAR_LIMIT_FRACTION: Final = 0.9


@dataclass(frozen=True, slots=True)
class EffectGroup:
    """The rows that are asked together: one kernel on one device, and how much was measured."""

    source: str
    device_kind: str
    device_uuid: str | None
    kernel: str
    model: str
    weight_dtype: str
    activation_dtype: str
    l2_state: str
    hold_celsius: tuple[float, ...]
    num_blocks: int
    num_points: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class TemperatureEffect:
    """How one kernel on one device answers to its die temperature; intervals are of 95 %.

    The relative slopes are of logarithms. Where nothing could be told, `absent_reason` says why and
    `cause` and all slopes are None; power may be absent alone. `latency_seconds` is the geometric
    mean over rows that makes seconds of the relative slope. Unless `drift_told_apart`, there were
    too few blocks to tell temperature from what drifts with time.
    """

    group: EffectGroup
    span_celsius: float | None  # of the blocks' mean die temperatures
    latency_seconds: float | None
    latency_fraction_per_celsius: Interval | None
    latency_seconds_per_celsius: Interval | None
    watts_per_celsius: Interval | None
    sm_clock_fraction_per_celsius: Interval | None
    cause: ThermalCause | None
    absent_reason: str | None
    watts_absent_reason: str | None
    drift_told_apart: bool = False

    @property
    def smallest_excluded_fraction_per_celsius(self) -> float | None:
        """X of "no effect on latency larger than X per degree"; None where an effect was found."""
        found = self.latency_fraction_per_celsius
        if found is None or found.low > 0 or found.high < 0:
            return None
        return max(-found.low, found.high)


def temperature_effects(table: pa.Table) -> tuple[TemperatureEffect, ...]:
    """Return the effect of temperature for each kernel and device in rows of `measurements`.

    Groups are of one source, device, kernel, model, number formats and L2 state, of all runs.
    Points at no held temperature are left out. Sentinels count: they are points, measured often.
    """
    held = table.filter(pc.is_valid(table["hold_celsius"]))
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, names in enumerate(zip(*(held[name].to_pylist() for name in _GROUP), strict=True)):
        groups[names].append(row)
    blocks = block_codes(held)
    return tuple(
        _effect(dict(zip(_GROUP, names, strict=True)), held.take(rows), blocks[rows])
        for names, rows in sorted(groups.items(), key=lambda item: tuple(map(str, item[0])))
    )


def _effect(names: dict[str, str], table: pa.Table, blocks: NDArray[np.int64]) -> TemperatureEffect:
    holds = tuple(sorted(set(table["hold_celsius"].to_pylist())))
    kept = _kept(table)
    table, blocks = table.take(np.flatnonzero(kept)), blocks[kept]
    _, points = np.unique(_point_names(table), return_inverse=True)
    _, blocks = np.unique(blocks, return_inverse=True)
    num_blocks = int(blocks.max()) + 1 if len(blocks) else 0
    group = EffectGroup(
        **names,
        hold_celsius=holds,
        num_blocks=num_blocks,
        num_points=len(set(points.tolist())),
        num_rows=table.num_rows,
    )
    if reason := _refusal(holds, num_blocks):
        return _absent(group, None, reason)
    design = _block_design(table, blocks)
    span_celsius = float(np.ptp(design[:, 0]))
    if span_celsius < _LEAST_SPAN_CELSIUS:
        reason = f"the blocks' die temperatures lie {span_celsius:.1f} C apart only"
        return _absent(group, span_celsius, reason)
    latencies = reals(table, "latency_seconds")
    errors = log_errors(table, "latency_seconds")
    latency = _slope(np.log(latencies), errors, points, blocks, design)
    if latency is None:
        reason = f"{num_blocks} blocks, too few to tell temperature from points and drift"
        return _absent(group, span_celsius, reason)
    clock = _slope(
        np.log(reals(table, "sm_clock_hertz")), np.zeros(len(points)), points, blocks, design
    )
    watts, watts_reason = _watts_slope(table, points, blocks, design)
    typical_seconds = float(np.exp(np.log(latencies).mean()))
    return TemperatureEffect(
        group,
        span_celsius,
        typical_seconds,
        latency.interval,
        _scaled(latency.interval, typical_seconds),
        None if watts is None else watts.interval,
        None if clock is None else clock.interval,
        thermal_cause(
            latency,
            watts,
            clock,
            span_celsius=span_celsius,
            at_power_limit_fraction=_at_power_limit_fraction(table),
        ),
        None,
        watts_reason,
        drift_told_apart=design.shape[1] > 1,
    )


def _absent(group: EffectGroup, span_celsius: float | None, reason: str) -> TemperatureEffect:
    return TemperatureEffect(
        group, span_celsius, None, None, None, None, None, None, reason, reason
    )


def _refusal(holds: tuple[float, ...], num_blocks: int) -> str | None:
    if len(holds) < 2:  # noqa: PLR2004 - a slope takes two temperatures
        return f"the points were held at one temperature only, {holds[0]:g} C"
    if num_blocks < _FEWEST_BLOCKS:
        return f"{num_blocks} blocks were measured, and it takes {_FEWEST_BLOCKS}"
    return None


def _kept(table: pa.Table) -> NDArray[np.bool_]:
    """Return which rows count: measured, at a known temperature, once for ranks that share it."""
    usable = [status in _MEASURED for status in table["status"].to_pylist()]
    known = (reals(table, "latency_seconds") > 0) & ~np.isnan(reals(table, "die_celsius"))
    kept = np.array(usable, dtype=np.bool_) & known
    seen = set()
    columns = ("run_id", "order_index", "latency_seconds")
    for row, name in enumerate(zip(*(table[each].to_pylist() for each in columns), strict=True)):
        kept[row] &= name not in seen
        seen.add(name)
    return kept


def _point_names(table: pa.Table) -> list[str]:
    columns = (table[name].to_pylist() for name in _POINT)
    return [repr(names) for names in zip(*columns, strict=True)]


def _block_design(table: pa.Table, blocks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each block's mean die temperature, and its moment in the runs with enough blocks.

    A block's readings are averaged: the errors of single ones, in whole degrees, would flatten the
    slope. Temperatures come in random order, so what a parabola leaves of the drift is scatter.
    """
    num_rows = np.bincount(blocks)
    celsius = np.bincount(blocks, weights=reals(table, "die_celsius")) / num_rows
    seconds = moments(table)
    seconds = np.bincount(blocks, weights=seconds - seconds.mean()) / num_rows
    runs = np.array(table["run_id"].to_pylist(), dtype=object)
    run_of_block = np.array([runs[np.argmax(blocks == block)] for block in range(len(num_rows))])
    columns = [celsius - celsius.mean()]
    for run_id in sorted(set(run_of_block.tolist())):
        ours = run_of_block == run_id
        elapsed = np.where(ours, seconds - seconds[ours].mean(), 0.0)
        elapsed /= max(float(np.ptp(elapsed)), 1.0)
        columns += [
            elapsed**power
            for power, fewest in enumerate(_BLOCKS_PER_DRIFT_POWER, start=1)
            if ours.sum() >= fewest
        ]
    return np.column_stack(columns)


def _slope(
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    points: NDArray[np.int64],
    blocks: NDArray[np.int64],
    design: NDArray[np.float64],
) -> BlockSlope | None:
    """Return the slope of values, a row without one left out; the errors are relative ones."""
    known = np.isfinite(values)
    if not known.any():
        return None
    errors = np.maximum(np.nan_to_num(errors, nan=_UNKNOWN_ERROR_FRACTION), _LEAST_ERROR_FRACTION)
    # A row known far better than most is still only as good as the point's return to its value.
    errors = np.maximum(errors, np.median(errors[known]))
    _, own_points = np.unique(points[known], return_inverse=True)
    left, own_blocks = np.unique(blocks[known], return_inverse=True)
    return block_slope(
        BlockRows(values[known], errors[known], own_points, own_blocks, design[left])
    )


def _watts_slope(
    table: pa.Table,
    points: NDArray[np.int64],
    blocks: NDArray[np.int64],
    design: NDArray[np.float64],
) -> tuple[BlockSlope | None, str | None]:
    watts = reals(table, "average_watts")
    if np.isnan(watts).all():
        reasons = [reason for reason in table["energy_absent_reason"].to_pylist() if reason]
        return None, reasons[0] if reasons else "no power was measured"
    num_holds = len(set(table["hold_celsius"].to_pylist()))
    if len(design) >= _FEWEST_BLOCKS_TO_BEND and num_holds >= _FEWEST_HOLDS_TO_BEND:
        design = np.column_stack([design, design[:, 0] ** 2])
    typical_watts = float(np.nanmean(watts))
    relative = watts / typical_watts
    found = _slope(relative, log_errors(table, "energy_joules") * relative, points, blocks, design)
    if found is None:
        return None, "too few blocks have a power"
    return replace(found, interval=_scaled(found.interval, typical_watts)), None


def _at_power_limit_fraction(table: pa.Table) -> float:
    limited = [
        ClockEvent.SW_POWER_CAP.value in (reasons or ())
        for reasons in table["clock_event_reasons"].to_pylist()
    ]
    watts, limit = reals(table, "average_watts"), reals(table, "power_limit_watts")
    # Some boards raise the bit far below the limit: it counts near it, or where nobody knows.
    believed = np.array(limited) & ~(watts < _NEAR_LIMIT_FRACTION * limit)
    return float(np.mean(believed | (watts >= _AT_LIMIT_FRACTION * limit)))


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(
        interval.estimate * factor, interval.low * factor, interval.high * factor,
        interval.confidence,
    )  # fmt: skip
