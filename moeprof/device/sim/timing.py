"""What one launch of simulated work costs in seconds and dynamic joules, without noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.device.sim.power import clocking_watts, joules_scale_fraction, leakage_watts
from moeprof.errors import KernelUnsupported

if TYPE_CHECKING:
    from moeprof.device.sim.truth import Truth
    from moeprof.device.simulated_work import SimulatedWork
    from moeprof.workload.workload import Workload

TILE_ROWS = 64
TILE_COLUMNS = 128
_FLOPS_PER_WEIGHT = 2


@dataclass(frozen=True, slots=True)
class LaunchCost:
    """The parts of one launch; `compute_seconds` and `compute_joules` at the highest clock."""

    truth: Truth
    overhead_seconds: float
    memory_seconds: float
    compute_seconds: float
    memory_joules: float
    compute_joules: float

    def seconds(self, sm_clock_hertz: float, die_celsius: float) -> float:
        """Return the seconds of one launch: a roofline, with compute as slow as the clock is."""
        compute_seconds = self.compute_seconds * self.truth.sm_clock_hertz_max / sm_clock_hertz
        base_seconds = self.overhead_seconds + max(self.memory_seconds, compute_seconds)
        excess_celsius = die_celsius - self.truth.reference_celsius
        return base_seconds * (1 + self.truth.latency_fraction_per_celsius * excess_celsius)

    def joules(self, sm_clock_hertz: float) -> float:
        """Return the joules of the bytes and FLOPs of one launch; idle and leakage come on top."""
        scale_fraction = joules_scale_fraction(self.truth, sm_clock_hertz)
        return self.memory_joules + self.compute_joules * scale_fraction

    def dynamic_watts(self, sm_clock_hertz: float, seconds_per_launch: float) -> float:
        """Return the power over idle and leakage while launches follow one another."""
        clocking = clocking_watts(self.truth, sm_clock_hertz)
        return clocking + self.joules(sm_clock_hertz) / seconds_per_launch

    def total_joules(self, sm_clock_hertz: float, die_celsius: float) -> float:
        """Return all the joules of one launch at a steady temperature, idle and leakage too."""
        seconds = self.seconds(sm_clock_hertz, die_celsius)
        dynamic_watts = self.dynamic_watts(sm_clock_hertz, seconds)
        leaking_watts = leakage_watts(self.truth, die_celsius)
        return (self.truth.idle_watts + leaking_watts + dynamic_watts) * seconds


def launch_cost(truth: Truth, work: SimulatedWork) -> LaunchCost:
    """Return what one launch of `work` costs.

    Raises:
        KernelUnsupported: the GPU does not compute in the workload's number formats.

    """
    workload = work.workload
    dtype = _slower_dtype(truth, workload)
    per_expert = truth.launches_per_active_expert.get(work.kernel, 0)
    num_launches = truth.fixed_launches + per_expert * workload.num_active_experts
    num_bytes = workload.weight_bytes + workload.activation_bytes
    l2_fraction = 0.0
    if work.l2_state == "warm" and num_bytes:
        l2_fraction = min(1.0, truth.l2_bytes / num_bytes)
    slow_fraction = 1 - l2_fraction + l2_fraction * truth.l2_seconds_fraction
    joules_fraction = 1 - l2_fraction + l2_fraction * truth.l2_joules_fraction
    return LaunchCost(
        truth=truth,
        overhead_seconds=num_launches * truth.launch_seconds,
        memory_seconds=num_bytes * slow_fraction / truth.bytes_per_second,
        compute_seconds=_compute_seconds(truth, workload, dtype),
        memory_joules=num_bytes * joules_fraction * truth.joules_per_byte,
        compute_joules=workload.flops * truth.joules_per_flop[dtype],
    )


def _slower_dtype(truth: Truth, workload: Workload) -> str:
    """Return the format of weights or activations that the GPU multiplies more slowly."""
    dtypes = (workload.weight_dtype, workload.activation_dtype)
    for dtype in dtypes:
        if dtype not in truth.flops_per_second:
            known = ", ".join(truth.flops_per_second)
            raise KernelUnsupported(
                f"the simulated GPU does not compute in {dtype}, only in {known}",
                hint="Choose one of these number formats.",
            )
    return min(dtypes, key=truth.flops_per_second.__getitem__)


def _compute_seconds(truth: Truth, workload: Workload, dtype: str) -> float:
    """Return the seconds of two products (gate and up, down) in waves of tiles over the SMs."""
    hidden, inner = workload.layer.hidden_size, workload.local_expert_size
    row_tiles = sum(-(-rows // TILE_ROWS) for rows in workload.rows_per_expert)
    tile_flops = _FLOPS_PER_WEIGHT * TILE_ROWS * TILE_COLUMNS
    flops_per_second_per_sm = truth.flops_per_second[dtype] / truth.num_sms
    seconds = 0.0
    for depth, columns in ((hidden, 2 * inner), (inner, hidden)):
        num_tiles = row_tiles * -(-columns // TILE_COLUMNS)
        num_waves = -(-num_tiles // truth.num_sms)
        seconds += num_waves * tile_flops * depth / flops_per_second_per_sm
    return seconds
