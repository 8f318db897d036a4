"""The SM clock that a GPU allows itself: under its temperature, and under its power limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.hardware.physics import Physics

_NUM_LINES: Final = 3  # after which the power is right to parts in a million
_NUM_CLOCKS: Final = 21  # between the lowest and the highest; power bends little from one to next


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What a stretch of work asks of a GPU at its full clock, in arrays that broadcast.

    Power is `steady_watts` at any clock, `clocked_watts` that fall with clock times voltage
    squared, and joules over time: `memory_joules` at any clock, `compute_joules` with voltage
    squared. `clocked_fraction` of `seconds` stretch as the clock falls.
    """

    seconds: NDArray[np.float64]
    clocked_fraction: NDArray[np.float64]
    steady_watts: NDArray[np.float64]
    clocked_watts: NDArray[np.float64]
    memory_joules: NDArray[np.float64]
    compute_joules: NDArray[np.float64]

    def take(self, chosen: NDArray[np.bool_]) -> Demand:
        """Return the demand of some GPUs, by a mask."""
        return Demand(
            self.seconds[chosen],
            self.clocked_fraction[chosen],
            self.steady_watts[chosen],
            self.clocked_watts[chosen],
            self.memory_joules[chosen],
            self.compute_joules[chosen],
        )


def squared_voltage(physics: Physics, clock: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return joules of one operation over those at the highest clock, by the clock's share."""
    floor = physics.voltage_floor_fraction
    voltage = floor + (1 - floor) * clock
    return voltage * voltage


def thermal_clock(physics: Physics, celsius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the highest clock that a die's temperature allows, shaped as `celsius`.

    The clock of a governor that has had time to settle: it never rises with the temperature.
    """
    excess = np.maximum(celsius - physics.slowdown_celsius, 0.0)
    lowest = physics.lowest_clock_fraction
    return np.maximum(1.0 - physics.clock_fraction_per_celsius * excess, lowest)


def at_clock(
    physics: Physics, demand: Demand, clock: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (seconds, watts) of a demand at a share of the highest clock; shapes broadcast."""
    squared = squared_voltage(physics, clock)
    clocked = demand.clocked_fraction
    seconds = demand.seconds * (1.0 - clocked + clocked / clock)
    joules = demand.memory_joules + demand.compute_joules * squared
    watts = demand.steady_watts + demand.clocked_watts * clock * squared
    return seconds, watts + joules / np.maximum(seconds, np.finfo(np.float64).tiny)


def fitting_clock(
    physics: Physics,
    demand: Demand,
    highest: NDArray[np.float64],
    limit_watts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the largest clock, up to `highest`, whose power the limit allows, all [num_gpus].

    Power rises with the clock. It is asked at all of some clocks at once, and taken as straight
    between two, again and again (regula falsi). Where even the lowest is too much, the lowest is
    taken.
    """
    clocks = np.linspace(physics.lowest_clock_fraction, 1.0, _NUM_CLOCKS)
    _, watts = at_clock(physics, demand, clocks[:, None])
    over = watts > limit_watts
    first_over = np.where(over.any(axis=0), over.argmax(axis=0), _NUM_CLOCKS)
    above = np.clip(first_over, 1, _NUM_CLOCKS - 1)
    place = np.arange(watts.shape[1])
    left, right = clocks[above - 1], clocks[above]
    low, high = watts[above - 1, place], watts[above, place]
    found = left
    for turn in range(_NUM_LINES):
        if turn:
            _, drawn = at_clock(physics, demand, found)
            is_over = drawn > limit_watts
            left, low = np.where(is_over, left, found), np.where(is_over, low, drawn)
            right, high = np.where(is_over, found, right), np.where(is_over, drawn, high)
        rise = np.maximum(high - low, np.finfo(np.float64).tiny)
        found = left + np.clip(limit_watts - low, 0.0, rise) / rise * (right - left)
    fitting: NDArray[np.float64] = np.minimum(found, highest)
    return fitting
