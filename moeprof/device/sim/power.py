"""Where a simulated GPU's watts go: idle, leakage, clocking, bytes moved, FLOPs done."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moeprof.device.sim.thermal import ThermalNetwork
    from moeprof.device.sim.truth import Truth

_FIXED_POINT_STEPS = 100


def leakage_watts(truth: Truth, die_celsius: float) -> float:
    """Return the power that leaks at one die temperature, whatever runs."""
    excess_celsius = die_celsius - truth.reference_celsius
    return truth.leakage_watts * math.exp(excess_celsius / truth.leakage_efold_celsius)


def joules_scale_fraction(truth: Truth, sm_clock_hertz: float) -> float:
    """Return the joules of one operation over those at the highest clock: voltage squared."""
    floor = truth.voltage_floor_fraction
    voltage_fraction = floor + (1 - floor) * sm_clock_hertz / truth.sm_clock_hertz_max
    return voltage_fraction * voltage_fraction


def clocking_watts(truth: Truth, sm_clock_hertz: float) -> float:
    """Return what running anything at all adds at one clock."""
    clock_fraction = sm_clock_hertz / truth.sm_clock_hertz_max
    return truth.busy_watts * clock_fraction * joules_scale_fraction(truth, sm_clock_hertz)


def idle_steady_state(truth: Truth, network: ThermalNetwork) -> tuple[float, float]:
    """Return (die, heatsink) in degrees Celsius of a card that has always been idle."""
    die_celsius, sink_celsius = network.steady(truth.idle_watts)
    for _ in range(_FIXED_POINT_STEPS):
        watts = truth.idle_watts + leakage_watts(truth, die_celsius)
        die_celsius, sink_celsius = network.steady(watts)
    return die_celsius, sink_celsius
