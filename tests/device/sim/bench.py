"""A test card, and its truths, devices and work with one thing changed at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.faults import NO_FAULTS, Faults
from moeprof.device.sim.truth import Truth, truth_of
from moeprof.device.simulated_work import SimulatedWork
from moeprof.hardware.gpu import GPU
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

CARD = GPU(
    name="test-card",
    device_names=("Test Card",),
    peak_flops_per_second={"bf16": 1e15},
    memory_bytes_per_second=4e12,
    memory_bytes=100 * 1024**3,
    l2_bytes=50 * 1024**2,
    power_limit_watts=700.0,
    num_sms=128,
    sm_clock_hertz_max=2e9,
    memory_clock_hertz=3e9,
)
LAYER = MoELayer("layer", hidden_size=4096, expert_size=1536, num_experts=128, top_k=8)
DECODE_ROWS = (1,) * 64 + (0,) * 64
DENSE_ROWS = (1024,) * 128


def truth(**changes: Any) -> Truth:
    return replace(truth_of(CARD), **changes)


def quiet_truth(**changes: Any) -> Truth:
    quiet = {"noise_fraction": 0.0, "outliers_fraction": 0.0, "dropped_reads_fraction": 0.0}
    return truth(**(quiet | changes))


def device(
    of: Truth | None = None, *, seed: int = 7, faults: Faults = NO_FAULTS
) -> SimulatedDevice:
    return SimulatedDevice(CARD, of or quiet_truth(), seed=seed, faults=faults)


def work(
    rows: tuple[int, ...] = DECODE_ROWS,
    *,
    kernel: str = "grouped",
    dtype: str = "bf16",
    l2_state: str = "cold",
    num_buffer_sets: int = 1,
) -> SimulatedWork:
    workload = Workload(
        model="model",
        layer=LAYER,
        weight_dtype=dtype,
        activation_dtype=dtype,
        batch_size=16,
        routing_pattern="uniform",
        routing_seed=0,
        placement="linear",
        ep_size=1,
        ep_rank=0,
        tp_size=1,
        rows_per_expert=rows,
    )
    return SimulatedWork(workload, kernel, l2_state, num_buffer_sets)
