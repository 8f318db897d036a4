"""The energy of a launch divided into idle power at rest, leakage of a warm die, and work."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from moeprof.record import EnergyParts, Interval

if TYPE_CHECKING:
    from moeprof.measure.idle import IdlePower
    from moeprof.measure.static_power import StaticPower
    from moeprof.record import Energy


def split_energy(energy: Energy, static: StaticPower, rest: IdlePower) -> EnergyParts:
    """Return the parts of a launch under continuous load.

    `static` is of the temperature of the load whose `energy` this is, `rest` of the cool device.
    The gain of the board's sensor is in all three.
    """
    if energy.per_launch is None or energy.average_watts is None:
        return EnergyParts(None, None, None, energy.absent_reason)
    if static.watts is None:
        return EnergyParts(None, None, None, static.absent["watts"])
    if rest.watts is None:
        return EnergyParts(None, None, None, rest.absent_reason)
    if _is_warmer(rest.die_celsius, static.die_celsius):
        reason = "the device was not cool when its power at rest was measured"
        return EnergyParts(None, None, None, reason)
    launch_seconds = energy.per_launch.estimate / energy.average_watts
    total_half, static_half, rest_half = (
        (each.high - each.low) / 2 * scale
        for each, scale in (
            (energy.per_launch, 1.0),
            (static.watts, launch_seconds),
            (rest.watts, launch_seconds),
        )
    )
    confidence = energy.per_launch.confidence

    def around(joules: float, half_width: float) -> Interval:
        return Interval(joules, joules - half_width, joules + half_width, confidence)

    idle = rest.watts.estimate * launch_seconds
    static_joules = static.watts.estimate * launch_seconds
    return EnergyParts(
        idle=around(idle, rest_half),
        leakage=around(static_joules - idle, math.hypot(static_half, rest_half)),
        dynamic=around(
            energy.per_launch.estimate - static_joules, math.hypot(total_half, static_half)
        ),
    )


def _is_warmer(rest_celsius: float | None, load_celsius: float | None) -> bool:
    return rest_celsius is not None and load_celsius is not None and rest_celsius > load_celsius
