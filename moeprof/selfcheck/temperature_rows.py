"""Rows of a sweep over held temperatures, priced by the simulator, with planted effects."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from moeprof.dataset.row import RowIdentity, measurement_row
from moeprof.dataset.schema import MEASUREMENTS, to_columns, to_table
from moeprof.device.protocol import DeviceIdentity
from moeprof.device.sim.device import EPOCH_SECONDS
from moeprof.device.sim.power import leakage_watts
from moeprof.device.sim.timing import launch_cost
from moeprof.device.simulated_work import SimulatedWork
from moeprof.recipe.load import load_recipe
from moeprof.record import ClockEvent, Outcome, Source, Status
from moeprof.selfcheck.draw import between, log_between
from moeprof.sweep.case import rank_groups
from moeprof.sweep.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.device.sim.timing import LaunchCost
    from moeprof.device.sim.truth import Truth
    from moeprof.workload.workload import Workload

DECODE: Final = (1, 4, 16, 64)
COMPUTE: Final = (1024, 1536, 2048, 3072)  # batch sizes bound by the SM clock
NUM_PLANS: Final = 8
NUM_HOLDS: Final = 4

_RELAXATIONS: Final = (0.1, 5.0)  # time constants of the drift in the sweep: straight to bent
_ERROR_FRACTION: Final = (0.0005, 0.003)
_CLAIM_FRACTION: Final = 0.15  # by which intervals come out too wide or too narrow, by chance
_WATTS_ERROR_FRACTION: Final = (0.002, 0.01)
_POINT_SECONDS: Final = (2.0, 20.0)
_HOLDING_SECONDS: Final = (30.0, 300.0)
_HOLD_ERROR_CELSIUS: Final = 0.4  # of a block
_WANDER_CELSIUS: Final = 0.3  # of a point, and of single readings about it
_NUM_READINGS: Final = (5, 40)
_LOST_LATENCIES_FRACTION: Final = 0.03
_LOST_WATTS_FRACTION: Final = 0.1
_STANDARD_ERRORS: Final = 1.959964
_BISECTIONS: Final = 40
_DEVICE: Final = DeviceIdentity("sim:selfcheck", "selfcheck", "sim-selfcheck", simulated=True)


@dataclass(frozen=True, slots=True)
class Planted:
    """What is done to a sweep beside what the truth of its card says.

    `slowdown_fraction_per_celsius` lowers the clock over the lowest temperature; a clock is also
    lowered so far that the power limit of the truth is kept.
    """

    hold_celsius: tuple[float, ...]
    disturbance_fraction: float  # of whole blocks, standard deviation
    drift_fraction: float
    slowdown_fraction_per_celsius: float


@dataclass(frozen=True, slots=True)
class Slopes:
    """The truth: straight lines through the points' means at the held temperatures."""

    log_latency_per_celsius: float
    watts_per_celsius: float


@dataclass(frozen=True, slots=True)
class _Design:
    """A planned sweep: per row its block, its place among the holds, and its workload."""

    table: pa.Table
    workloads: tuple[Workload, ...]  # distinct ones
    kernel: str
    l2_state: str
    blocks: np.ndarray[tuple[int], np.dtype[np.int64]]
    holds: np.ndarray[tuple[int], np.dtype[np.int64]]
    points: np.ndarray[tuple[int], np.dtype[np.int64]]


@lru_cache(maxsize=4 * NUM_PLANS)
def _design(batch_sizes: tuple[int, ...], seed: int) -> _Design:
    text = f"""
name = "selfcheck-temperature"
workload = {{ models = ["mixtral-8x7b"], batch_sizes = {list(batch_sizes)},
  patterns = ["uniform", "active:2"] }}
conditioning = {{ hold_celsius = {list(range(NUM_HOLDS))} }}
order = {{ num_blocks = 12, sentinel_every = 4 }}
""".replace(",\n  patterns", ", patterns")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        loaded = load_recipe(path, seed=seed)
    rows, blocks, holds, points = [], [], [], []
    known: dict[Workload, int] = {}
    for block in make_plan(loaded).blocks:
        for entry in block.entries:
            (group,) = rank_groups(entry.case, seed=seed)
            point = known.setdefault(group.workload, len(known))
            identity = RowIdentity(
                point_id=f"{point}-{block.hold_celsius}",
                run_id="selfcheck",
                order_index=entry.order_index,
                role=entry.role,
                source=Source.SIMULATED,
                device=_DEVICE,
                kernel=entry.case.kernel,
                recorded_at=datetime.fromtimestamp(EPOCH_SECONDS, UTC),
            )
            row = measurement_row(identity, group.workload, Outcome(Status.OK))
            rows.append(row | {"l2_state": entry.case.l2_state, "confidence": 0.95})
            blocks.append(block.index)
            holds.append(int(block.hold_celsius or 0))
            points.append(point)
    case = loaded.recipe.workload
    return _Design(
        to_table(to_columns(rows, MEASUREMENTS), MEASUREMENTS),
        tuple(known),
        case.kernels[0],
        case.l2_state,
        np.array(blocks),
        np.array(holds),
        np.array(points),
    )


def drawn_rows(
    truth: Truth,
    planted: Planted,
    random: np.random.Generator,
    batch_sizes: tuple[int, ...] = DECODE,
) -> tuple[pa.Table, Slopes]:
    """Return `measurements` of one sweep with its noise, and what is true of it."""
    design = _design(batch_sizes, int(random.integers(NUM_PLANS)))
    costs = _costs(truth, design)
    num_rows, num_blocks = len(design.blocks), int(design.blocks.max()) + 1
    set_points = np.array(planted.hold_celsius)[design.holds]
    celsius = set_points + random.normal(0, _HOLD_ERROR_CELSIUS, num_blocks)[design.blocks]
    celsius += random.normal(0, _WANDER_CELSIUS, num_rows)
    operating = [
        _operating(costs[point], planted, at)
        for point, at in zip(design.points, celsius.tolist(), strict=True)
    ]
    clocks, latencies, watts = np.array(operating).T
    seconds = random.uniform(*_POINT_SECONDS, num_rows).cumsum()
    seconds += random.uniform(*_HOLDING_SECONDS, num_blocks).cumsum()[design.blocks]
    rate = log_between(random, _RELAXATIONS)
    drift = np.expm1(-rate * seconds / seconds[-1]) / math.expm1(-rate)
    log_latencies = np.log(latencies) + np.log1p(planted.drift_fraction * drift)
    disturbances = random.normal(0, planted.disturbance_fraction, (2, num_blocks))
    errors = np.array([log_between(random, _ERROR_FRACTION) for _ in range(num_rows)])
    log_latencies += disturbances[0, design.blocks] + errors * random.standard_normal(num_rows)
    watts_error = log_between(random, _WATTS_ERROR_FRACTION)
    watts *= 1 + disturbances[1, design.blocks] + watts_error * random.standard_normal(num_rows)
    claimed = errors * np.exp(_CLAIM_FRACTION * random.standard_normal(num_rows))
    num_readings = int(random.integers(*_NUM_READINGS))
    wander = random.normal(0, _WANDER_CELSIUS, (num_readings, num_rows))
    lost = random.random(num_rows) < _LOST_LATENCIES_FRACTION
    found = np.where(lost, np.nan, np.exp(log_latencies))
    watts = np.where(lost | (random.random(num_rows) < _LOST_WATTS_FRACTION), np.nan, watts)
    slowed = clocks < truth.sm_clock_hertz_max
    capped = slowed & (planted.slowdown_fraction_per_celsius == 0)
    joules_width = np.exp(_STANDARD_ERRORS * watts_error)
    columns = {
        "hold_celsius": set_points,
        "die_celsius": np.round(celsius + wander).mean(axis=0),
        "sm_clock_hertz": clocks,
        "power_limit_watts": np.full(num_rows, truth.power_limit_watts),
        "throttled_fraction": slowed.astype(float),
        "latency_seconds": found,
        "latency_seconds_ci_low": found * np.exp(-_STANDARD_ERRORS * claimed),
        "latency_seconds_ci_high": found * np.exp(_STANDARD_ERRORS * claimed),
        "average_watts": watts,
        "energy_joules": watts * found,
        "energy_joules_ci_low": watts * found / joules_width,
        "energy_joules_ci_high": watts * found * joules_width,
    }
    arrays = {name: pa.array(each, mask=np.isnan(each)) for name, each in columns.items()}
    microseconds = ((EPOCH_SECONDS + seconds) * 1e6).astype(np.int64)
    arrays["recorded_at"] = pa.array(microseconds).cast(MEASUREMENTS.field("recorded_at").type)
    arrays["clock_event_reasons"] = pa.array(
        [_reasons(bool(low), by_power=bool(cap)) for low, cap in zip(slowed, capped, strict=True)],
        type=MEASUREMENTS.field("clock_event_reasons").type,
    )
    table = design.table
    for name, array in arrays.items():
        table = table.set_column(table.schema.get_field_index(name), table.field(name), array)
    weights = np.bincount(design.points)
    return table, _slopes(costs, planted, weights.tolist())


def coldest_watts(truth: Truth, hold_celsius: float, batch_sizes: tuple[int, ...]) -> float:
    """Return the least that any point draws at one temperature and the highest clock."""
    costs = _costs(truth, _design(batch_sizes, 0))
    return min(
        each.total_joules(truth.sm_clock_hertz_max, hold_celsius)
        / each.seconds(truth.sm_clock_hertz_max, hold_celsius)
        for each in costs
    )


def _costs(truth: Truth, design: _Design) -> tuple[LaunchCost, ...]:
    works = (SimulatedWork(each, design.kernel, design.l2_state) for each in design.workloads)
    return tuple(launch_cost(truth, work) for work in works)


def _operating(cost: LaunchCost, planted: Planted, celsius: float) -> tuple[float, float, float]:
    """Return (clock, latency, power) that a point settles at."""
    truth = cost.truth
    excess_celsius = max(0.0, celsius - planted.hold_celsius[0])
    clock = truth.sm_clock_hertz_max
    clock *= 1 - planted.slowdown_fraction_per_celsius * excess_celsius
    if _watts(cost, clock, celsius) > truth.power_limit_watts:
        low, high = truth.sm_clock_hertz_min, clock
        for _ in range(_BISECTIONS):
            clock = (low + high) / 2
            below = _watts(cost, clock, celsius) <= truth.power_limit_watts
            low, high = (clock, high) if below else (low, clock)
    return clock, cost.seconds(clock, celsius), _watts(cost, clock, celsius)


def _watts(cost: LaunchCost, clock_hertz: float, celsius: float) -> float:
    truth = cost.truth
    dynamic = cost.dynamic_watts(clock_hertz, cost.seconds(clock_hertz, celsius))
    return truth.idle_watts + leakage_watts(truth, celsius) + dynamic


def _slopes(costs: Sequence[LaunchCost], planted: Planted, weights: Sequence[int]) -> Slopes:
    holds = planted.hold_celsius
    found = np.array([[_operating(cost, planted, at) for at in holds] for cost in costs])
    mean = np.average(found, axis=0, weights=weights)
    log_latency = np.average(np.log(found[:, :, 1]), axis=0, weights=weights)
    return Slopes(
        float(np.polyfit(holds, log_latency, 1)[0]), float(np.polyfit(holds, mean[:, 2], 1)[0])
    )


def _reasons(slowed: bool, *, by_power: bool) -> list[str]:  # noqa: FBT001 - a row's own flag
    if not slowed:
        return []
    return [(ClockEvent.SW_POWER_CAP if by_power else ClockEvent.SW_THERMAL_SLOWDOWN).value]


def drawn_plan(
    random: np.random.Generator, *, disturbance_fraction_max: float, drift_fraction_max: float
) -> Planted:
    """Return a sweep over four temperatures, as chance has it, with no slowdown."""
    lowest, step = between(random, (35.0, 50.0)), between(random, (3.0, 6.0))
    return Planted(
        hold_celsius=tuple(lowest + step * index for index in range(NUM_HOLDS)),
        disturbance_fraction=between(random, (0.0, disturbance_fraction_max)),
        drift_fraction=between(random, (0.0, drift_fraction_max)),
        slowdown_fraction_per_celsius=0.0,
    )
