"""Decode work of a wanted size or length, for the audit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from moeprof.device.simulated_work import SimulatedWork
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from moeprof.device.sim.truth import Truth

BYTES_PER_WEIGHT = 2  # bf16
_NUM_ACTIVE_EXPERTS = 4


def decode_workload(size: int, num_experts: int) -> Workload:
    """Return one token's work (bf16) on each of `num_experts` experts of `[size, size]`."""
    return Workload(
        model="selfcheck",
        layer=MoELayer("selfcheck", size, size, num_experts, num_experts),
        weight_dtype="bf16",
        activation_dtype="bf16",
        batch_size=1,
        routing_pattern="uniform",
        routing_seed=0,
        placement="all",
        ep_size=1,
        ep_rank=0,
        tp_size=1,
        rows_per_expert=(1,) * num_experts,
    )


def decode_work(truth: Truth, launch_seconds: float) -> SimulatedWork:
    """Return cold decode work (bf16, one row per active expert) of about `launch_seconds`.

    It is bound by memory: as many weights as that time can read, after the launches' own overhead.
    """
    overhead_seconds = truth.fixed_launches * truth.launch_seconds
    num_bytes = max(0.0, launch_seconds - overhead_seconds) * truth.bytes_per_second
    num_weights = num_bytes / (3 * BYTES_PER_WEIGHT * _NUM_ACTIVE_EXPERTS)
    size = max(1, round(math.sqrt(num_weights)))
    workload = decode_workload(size, _NUM_ACTIVE_EXPERTS)
    return SimulatedWork(workload=workload, kernel="selfcheck", l2_state="cold")
