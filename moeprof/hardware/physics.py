"""What turns a GPU's work into seconds and watts, and its watts into heat and clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.hardware import assumed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.hardware.gpu import GPU

_FROM_CATALOGUE = (
    "power_limit_watts",
    "sm_clock_hertz_max",
    "achievable_flops_fraction",
    "achievable_bandwidth_fraction",
    "idle_watts",
    "busy_watts",
    "leakage_watts",
    "leakage_efold_celsius",
    "joules_per_byte",
    "max_operating_celsius",
    "clock_fraction_per_celsius",
    "lowest_clock_fraction",
    "clocked_memory_fraction",
    "die_celsius_per_watt",
    "heatsink_celsius_per_watt",
)


@dataclass(frozen=True, slots=True)
class Physics:
    """One GPU as an emulation needs it: every number is there, from its file or assumed.

    Power is idle + leakage + clocking + joules of bytes and FLOPs over time. `busy_watts`, what
    running anything adds, falls with clock times voltage squared, joules of FLOPs with voltage
    squared; voltage falls linearly with the clock to `voltage_floor_fraction` of its highest.
    `leakage_watts` are those at `reference_celsius`. `flops_per_second` and `joules_per_flop` are
    by number format, and like `bytes_per_second` what a good kernel reaches at the highest clock.
    Above `slowdown_celsius` the clock falls by `clock_fraction_per_celsius` of the highest, down
    to `lowest_clock_fraction`. `assumed` names what the GPU's file does not have.
    """

    name: str
    bytes_per_second: float
    flops_per_second: Mapping[str, float]
    power_limit_watts: float
    idle_watts: float
    busy_watts: float
    leakage_watts: float
    reference_celsius: float
    leakage_efold_celsius: float
    joules_per_byte: float
    joules_per_flop: Mapping[str, float]
    voltage_floor_fraction: float
    sm_clock_hertz_max: float
    slowdown_celsius: float
    clock_fraction_per_celsius: float
    lowest_clock_fraction: float
    clocked_memory_fraction: float
    die_celsius_per_watt: float
    heatsink_celsius_per_watt: float
    die_seconds: float
    heatsink_seconds: float
    assumed: tuple[str, ...]

    @property
    def waiting_watts(self) -> float:
        """What a card draws that waits with its clocks up, at the reference temperature."""
        return self.idle_watts + self.busy_watts + self.leakage_watts


def physics_of(gpu: GPU) -> Physics:
    """Return the physics of one GPU; sources of what is assumed stand in `hardware.assumed`."""
    limit_watts = gpu.power_limit_watts or assumed.POWER_LIMIT_WATTS
    reached = gpu.achievable_flops_fraction or assumed.ACHIEVABLE_FLOPS_FRACTION
    flops = {dtype: peak * reached for dtype, peak in gpu.peak_flops_per_second.items()}
    tensor_core_watts = assumed.TENSOR_CORE_FRACTION * limit_watts
    celsius_per_watt = assumed.FULL_POWER_RISE_CELSIUS / limit_watts
    die_share = assumed.DIE_SHARE_FRACTION
    return Physics(
        name=gpu.name,
        bytes_per_second=gpu.memory_bytes_per_second
        * (gpu.achievable_bandwidth_fraction or assumed.ACHIEVABLE_BANDWIDTH_FRACTION),
        flops_per_second=flops,
        power_limit_watts=limit_watts,
        idle_watts=gpu.idle_watts or assumed.IDLE_FRACTION * limit_watts,
        busy_watts=gpu.busy_watts or assumed.BUSY_FRACTION * limit_watts,
        leakage_watts=gpu.leakage_watts or assumed.LEAKAGE_FRACTION * limit_watts,
        reference_celsius=assumed.REFERENCE_CELSIUS,
        leakage_efold_celsius=gpu.leakage_efold_celsius or assumed.LEAKAGE_EFOLD_CELSIUS,
        joules_per_byte=gpu.joules_per_byte or assumed.JOULES_PER_BYTE,
        joules_per_flop={dtype: tensor_core_watts / rate for dtype, rate in flops.items()},
        voltage_floor_fraction=assumed.VOLTAGE_FLOOR_FRACTION,
        sm_clock_hertz_max=gpu.sm_clock_hertz_max or assumed.SM_CLOCK_HERTZ_MAX,
        slowdown_celsius=gpu.slowdown_celsius
        or gpu.max_operating_celsius
        or assumed.SLOWDOWN_CELSIUS,
        clock_fraction_per_celsius=gpu.clock_fraction_per_celsius
        or assumed.CLOCK_FRACTION_PER_CELSIUS,
        lowest_clock_fraction=gpu.lowest_clock_fraction or assumed.LOWEST_CLOCK_FRACTION,
        clocked_memory_fraction=gpu.clocked_memory_fraction or assumed.CLOCKED_MEMORY_FRACTION,
        die_celsius_per_watt=gpu.die_celsius_per_watt or celsius_per_watt * die_share,
        heatsink_celsius_per_watt=gpu.heatsink_celsius_per_watt
        or celsius_per_watt * (1 - die_share),
        die_seconds=assumed.DIE_SECONDS,
        heatsink_seconds=assumed.HEATSINK_SECONDS,
        assumed=tuple(name for name in _FROM_CATALOGUE if getattr(gpu, name) is None),
    )
