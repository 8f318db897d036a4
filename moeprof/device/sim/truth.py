"""Everything that is true of a simulated GPU and that a measurement has to find out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moeprof.device.sim.planted import NOTHING_PLANTED, Planted
from moeprof.hardware import assumed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.hardware.gpu import GPU

# Stand-ins, all assumptions, for what a specification leaves out and only the simulator needs.
_L2_BYTES = 50 * 1024**2
_NUM_SMS = 108


@dataclass(frozen=True, slots=True)
class Truth:
    """The physics and the sensors of one simulated GPU; measuring code never reads this.

    The fields without a default follow from the specification, in `truth_of`. Those with one are
    assumptions of a plausible size, unless a source is named beside them.
    """

    # Speed
    bytes_per_second: float  # what a kernel that only reads gets
    flops_per_second: Mapping[str, float]  # by dtype, what full tiles get at the highest clock
    memory_bytes: int
    l2_bytes: int
    num_sms: int
    # Power
    power_limit_watts: float
    idle_watts: float  # without leakage
    busy_watts: float  # what running anything adds, at the highest clock
    leakage_watts: float  # at `reference_celsius`
    joules_per_flop: Mapping[str, float]  # by dtype, at the highest clock
    # Heat
    die_celsius_per_watt: float  # from die to heatsink
    heatsink_celsius_per_watt: float  # from heatsink to air
    die_joules_per_celsius: float
    heatsink_joules_per_celsius: float
    # Clocks
    sm_clock_hertz_max: float
    sm_clock_hertz_min: float  # as low as throttling goes
    memory_clock_hertz: float | None
    slowdown_celsius: float

    l2_seconds_fraction: float = 0.4  # of the seconds of a byte from memory (assumption)
    launch_seconds: float = assumed.LAUNCH_SECONDS
    fixed_launches: int = assumed.FIXED_LAUNCHES
    launches_per_active_expert: Mapping[str, int] = field(  # by kernel; 0 where it is not named
        default_factory=lambda: {"torch-loop": 6}  # index, three products, SwiGLU, scatter
    )
    latency_fraction_per_celsius: float = 0.0  # against `reference_celsius`, clock held
    drift_fraction: float = 0.0  # by how much latency has grown after `drift_seconds`, for good
    drift_seconds: float = 3600.0

    joules_per_byte: float = assumed.JOULES_PER_BYTE
    l2_joules_fraction: float = 0.25  # of `joules_per_byte`, for a byte that L2 holds
    voltage_floor_fraction: float = assumed.VOLTAGE_FLOOR_FRACTION

    ambient_celsius: float = 28.0
    reference_celsius: float = assumed.REFERENCE_CELSIUS
    leakage_efold_celsius: float = assumed.LEAKAGE_EFOLD_CELSIUS
    memory_offset_celsius: float = 6.0  # memory over the mean of die and heatsink

    idle_sm_clock_hertz: float = 345e6  # as idle Hopper cards report
    sm_clock_step_hertz: float = 15e6  # the step of NVIDIA's clock tables
    idle_after_seconds: float = 0.2
    governor_seconds: float = 0.1  # between decisions, each about the mean power since the last
    governor_num_steps: int = 20  # clock steps per whole limit that the power exceeds it by
    governor_slack_fraction: float = 0.03  # below the limit the clock stays where it is
    thermal_slack_celsius: float = 2.0  # below the slowdown temperature the clock stays

    noise_fraction: float = 0.004  # standard deviation; repeats in public tables differ by 0.8 %
    noise_carry_fraction: float = 0.6  # of one sample's deviation that the next one keeps
    outliers_fraction: float = 0.002  # of all samples
    outlier_extra_fraction: float = 0.2  # of latency, in an outlier

    counter_seconds: float = 0.1  # between ticks; 0.02 on a V100, 0.1 on later cards
    counter_lag_seconds: float = 0.0  # a tick shows what had been used by so long before it
    counter_gain_error_fraction: float = 0.0
    counter_reset_seconds: float | None = None  # the counter starts again from 0 this often
    power_window_seconds: float = 1.0  # NVML: power usage is a 1 s average since Ampere
    power_update_seconds: float = 0.1  # between updates of the reading (arXiv 2312.02741)
    power_lag_seconds: float = 0.1
    power_gain_error_fraction: float = 0.02  # boards err by up to 5 % (arXiv 2312.02741)
    dropped_reads_fraction: float = 0.001
    state_read_seconds: float = 50e-6  # what reading every sensor takes; the GPU idles meanwhile
    counter_read_seconds: float = 20e-6

    planted: Planted = NOTHING_PLANTED


def truth_of(gpu: GPU) -> Truth:
    """Return the truth of one card that keeps the promises of its specification."""
    limit_watts = gpu.power_limit_watts or assumed.POWER_LIMIT_WATTS
    clock_hertz = gpu.sm_clock_hertz_max or assumed.SM_CLOCK_HERTZ_MAX
    flops_fraction = gpu.achievable_flops_fraction or assumed.ACHIEVABLE_FLOPS_FRACTION
    flops = {dtype: peak * flops_fraction for dtype, peak in gpu.peak_flops_per_second.items()}
    celsius_per_watt = assumed.FULL_POWER_RISE_CELSIUS / limit_watts
    die_celsius_per_watt = celsius_per_watt * assumed.DIE_SHARE_FRACTION
    heatsink_celsius_per_watt = celsius_per_watt - die_celsius_per_watt
    return Truth(
        bytes_per_second=gpu.memory_bytes_per_second
        * (gpu.achievable_bandwidth_fraction or assumed.ACHIEVABLE_BANDWIDTH_FRACTION),
        flops_per_second=flops,
        memory_bytes=gpu.memory_bytes,
        l2_bytes=gpu.l2_bytes or _L2_BYTES,
        num_sms=gpu.num_sms or _NUM_SMS,
        power_limit_watts=limit_watts,
        idle_watts=assumed.IDLE_FRACTION * limit_watts,
        busy_watts=assumed.BUSY_FRACTION * limit_watts,
        leakage_watts=assumed.LEAKAGE_FRACTION * limit_watts,
        joules_per_flop={
            dtype: assumed.TENSOR_CORE_FRACTION * limit_watts / rate
            for dtype, rate in flops.items()
        },
        die_celsius_per_watt=die_celsius_per_watt,
        heatsink_celsius_per_watt=heatsink_celsius_per_watt,
        die_joules_per_celsius=assumed.DIE_SECONDS / die_celsius_per_watt,
        heatsink_joules_per_celsius=assumed.HEATSINK_SECONDS / heatsink_celsius_per_watt,
        sm_clock_hertz_max=clock_hertz,
        sm_clock_hertz_min=assumed.LOWEST_CLOCK_FRACTION * clock_hertz,
        memory_clock_hertz=gpu.memory_clock_hertz,
        slowdown_celsius=gpu.slowdown_celsius or assumed.SLOWDOWN_CELSIUS,
    )
