"""Dies and heatsinks of many GPUs at once, solved exactly for constant power."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moeprof.hardware.physics import Physics


@dataclass(frozen=True, slots=True)
class HeatStep:
    """What so many seconds of constant power do to a die on a heatsink in a stream of air.

    Both nodes move to their steady state: of the die's distance from its own, `die_die` of its
    own and `die_sink` of the heatsink's are left, of the heatsink's `sink_die` and `sink_sink`.
    """

    die_celsius_per_watt: float
    heatsink_celsius_per_watt: float
    die_die_fraction: float
    die_sink_fraction: float
    sink_die_fraction: float
    sink_sink_fraction: float

    @classmethod
    def of(cls, physics: Physics, seconds: float) -> HeatStep:
        """Return the step of one kind of GPU.

        Two linear equations with the eigenvalues a and b: exp(A t) = exp(a t) I + (exp(a t) -
        exp(b t)) / (a - b) (A - a I), Sylvester's formula, as in `device.sim.thermal`.
        """
        die, sink = physics.die_celsius_per_watt, physics.heatsink_celsius_per_watt
        from_sink = 1 / physics.die_seconds
        to_air = 1 / physics.heatsink_seconds
        from_die = to_air * sink / die
        mean = -(from_sink + from_die + to_air) / 2
        spread = math.sqrt(mean * mean - from_sink * to_air)
        slow = math.exp((mean + spread) * seconds)
        fast = math.exp((mean - spread) * seconds)
        beta = (slow - fast) / (2 * spread)
        alpha = slow - (mean + spread) * beta
        return cls(
            die_celsius_per_watt=die,
            heatsink_celsius_per_watt=sink,
            die_die_fraction=alpha - beta * from_sink,
            die_sink_fraction=beta * from_sink,
            sink_die_fraction=beta * from_die,
            sink_sink_fraction=alpha - beta * (from_die + to_air),
        )

    @property
    def sink_fraction(self) -> float:
        """The heatsink's share of the way from the air to a steady die."""
        whole = self.die_celsius_per_watt + self.heatsink_celsius_per_watt
        return self.heatsink_celsius_per_watt / whole

    def steady(
        self, ambient_celsius: NDArray[np.float64], watts: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (die, heatsink) in degrees Celsius after `watts` for ever; shapes broadcast."""
        sink = ambient_celsius + watts * self.heatsink_celsius_per_watt
        return sink + watts * self.die_celsius_per_watt, sink

    def after(
        self,
        die_celsius: NDArray[np.float64],
        sink_celsius: NDArray[np.float64],
        ambient_celsius: NDArray[np.float64],
        watts: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (die, heatsink) in degrees Celsius after the step; shapes broadcast."""
        steady_die, steady_sink = self.steady(ambient_celsius, watts)
        die, sink = die_celsius - steady_die, sink_celsius - steady_sink
        return (
            steady_die + self.die_die_fraction * die + self.die_sink_fraction * sink,
            steady_sink + self.sink_die_fraction * die + self.sink_sink_fraction * sink,
        )
