"""Two thermal nodes, die and heatsink, solved exactly for constant power."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moeprof.device.sim.truth import Truth


class ThermalNetwork:
    """Die -> heatsink -> air, each a thermal resistance, with a heat capacity at both nodes.

    With x = (die, heatsink) over their steady state, dx/dt = A x, and by Sylvester's formula
    exp(A t) = alpha(t) I + beta(t) A for the two distinct eigenvalues of A.
    """

    def __init__(self, truth: Truth) -> None:
        die, sink = truth.die_celsius_per_watt, truth.heatsink_celsius_per_watt
        from_sink = 1 / (die * truth.die_joules_per_celsius)
        from_die = 1 / (die * truth.heatsink_joules_per_celsius)
        to_air = 1 / (sink * truth.heatsink_joules_per_celsius)
        mean = -(from_sink + from_die + to_air) / 2
        spread = math.sqrt(mean * mean - from_sink * to_air)
        self._matrix = (-from_sink, from_sink, from_die, -(from_die + to_air))
        self._slow, self._fast = mean + spread, mean - spread
        self._die_celsius_per_watt, self._sink_celsius_per_watt = die, sink
        self._ambient_celsius = truth.ambient_celsius

    def steady(self, watts: float) -> tuple[float, float]:
        """Return (die, heatsink) in degrees Celsius after `watts` for ever."""
        sink_celsius = self._ambient_celsius + watts * self._sink_celsius_per_watt
        return sink_celsius + watts * self._die_celsius_per_watt, sink_celsius

    def after(
        self, seconds: float, die_celsius: float, sink_celsius: float, watts: float
    ) -> tuple[float, float]:
        """Return (die, heatsink) in degrees Celsius after `seconds` of constant `watts`."""
        steady_sink = self._ambient_celsius + watts * self._sink_celsius_per_watt
        steady_die = steady_sink + watts * self._die_celsius_per_watt
        slow = math.exp(self._slow * seconds)
        beta = (slow - math.exp(self._fast * seconds)) / (self._slow - self._fast)
        alpha = slow - self._slow * beta
        die, sink = die_celsius - steady_die, sink_celsius - steady_sink
        die_die, die_sink, sink_die, sink_sink = self._matrix
        return (
            steady_die + (alpha + beta * die_die) * die + beta * die_sink * sink,
            steady_sink + beta * sink_die * die + (alpha + beta * sink_sink) * sink,
        )
