"""Runs, workloads, outcomes and rows that the claims about datasets are made with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from moeprof.dataset.row import RowIdentity, measurement_row, sample_rows
from moeprof.dataset.run import RunRecord
from moeprof.device.protocol import DeviceIdentity
from moeprof.record import (
    ClockEvent,
    Condition,
    Energy,
    EnergyParts,
    Interval,
    Latency,
    Outcome,
    Role,
    Sample,
    Source,
    Status,
    ThrottleEvent,
)
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from moeprof.dataset.schema import Row

DEVICE = DeviceIdentity("sim:h200-sxm", "Simulated H200", "SIM-0", simulated=True)
RUN = RunRecord(
    run_id="0123456789ab",
    recipe_text="seed = 7\n",
    recipe={"seed": 7, "workload": {"batch_sizes": [1, 2]}},
    seed=7,
    versions={"moeprof": "0.1.0"},
    device=DEVICE,
    limits={"power_limit_watts": 700.0},
)
WORKLOAD = Workload(
    model="tiny",
    layer=MoELayer("tiny", hidden_size=64, expert_size=96, num_experts=8, top_k=2),
    weight_dtype="bf16",
    activation_dtype="bf16",
    batch_size=4,
    routing_pattern="uniform",
    routing_seed=7,
    placement="contiguous",
    ep_size=2,
    ep_rank=0,
    tp_size=1,
    rows_per_expert=(3, 0, 1, 0),
)
CONDITION = Condition(
    hold_celsius=55.0,
    warm_up_seconds=300.0,
    warm_up_steady=True,
    die_celsius=55.2,
    die_celsius_start=55.0,
    die_celsius_end=55.4,
    memory_celsius=None,
    sm_clock_hertz=1.98e9,
    sm_clock_hertz_min=1.965e9,
    memory_clock_hertz=2.6e9,
    power_limit_watts=700.0,
    idle_watts=75.5,
    clock_events=frozenset({ClockEvent.SW_POWER_CAP, ClockEvent.IDLE}),
    throttled_fraction=0.25,
    l2_state="cold",
    throttle_events=(ThrottleEvent(0.5, 0.75, ClockEvent.SW_POWER_CAP, told=True),),
    sm_clock_hertz_max=1.995e9,
    idle_celsius=55.2,
    rest_celsius=33.0,
    leakage_watts_per_celsius=0.9,
)
PARTS = EnergyParts(
    *(Interval(value, 0.9 * value, 1.1 * value, 0.95) for value in (0.03, 0.01, 0.1))
)
FAILED = Outcome(Status.OUT_OF_MEMORY, "needs 3 bytes more")
LOST = Outcome(Status.DEVICE_LOST, "no answer")


def identity(order_index: int = 0, **changes: Any) -> RowIdentity:
    """Return a row's identity; the point's name follows from its place unless given."""
    plain = RowIdentity(
        point_id=f"{order_index:016x}",
        run_id=RUN.run_id,
        order_index=order_index,
        role=Role.POINT,
        source=Source.SIMULATED,
        device=DEVICE,
        kernel="reference",
        recorded_at=datetime(2026, 1, 2, tzinfo=UTC) + timedelta(microseconds=order_index),
    )
    return replace(plain, **changes)


def outcome(seed: int, *, num_samples: int = 3) -> Outcome:
    """Return a measured outcome with numbers of many digits."""
    seconds = np.random.default_rng(seed).random(num_samples) * 1e-4
    samples = tuple(
        Sample(float(each), die_celsius=None if index == 1 else 55 + float(each))
        for index, each in enumerate(seconds)
    )
    middle = float(np.median(seconds))
    latency = Latency(
        Interval(middle, middle * 0.99, middle * 1.01, 0.95),
        p10_seconds=middle / 3,
        p90_seconds=middle * 3,
        p99_seconds=middle * 7,
        samples=samples,
        num_launches=300,
        num_rejected=1,
    )
    energy = Energy(Interval(middle * 500, 0.1, 0.2, 0.95), 500.1, "simulated", parts=PARTS)
    return Outcome(Status.OK, None, latency, energy, CONDITION)


def step(order_index: int, *, num_ranks: int = 1, **changes: Any) -> tuple[list[Row], list[Row]]:
    """Return the rows and samples of one measured step."""
    rows, samples = [], []
    for rank in range(num_ranks):
        who = identity(order_index, **changes)
        workload = replace(WORKLOAD, ep_rank=rank)
        what = outcome(100 * order_index + rank)
        rows.append(measurement_row(who, workload, what))
        samples += sample_rows(who, workload, what)
    return rows, samples


def step_with(order_index: int, what: Outcome, **changes: Any) -> tuple[list[Row], list[Row]]:
    """Return a step of one rank with the given outcome."""
    who = identity(order_index, **changes)
    return [measurement_row(who, WORKLOAD, what)], sample_rows(who, WORKLOAD, what)
