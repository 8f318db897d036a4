"""What a device draws besides the work, found out before its points are measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# What reads a Background back from a journal needs these at run time.
from moeprof.measure.idle import IdlePower  # noqa: TC001
from moeprof.measure.sensor.figures import SensorReport  # noqa: TC001
from moeprof.measure.static_power import StaticPower  # noqa: TC001
from moeprof.record import Interval

# As far as static power may be carried where its slope is not known: what a thermometer rounds.
_NEAR_CELSIUS = 1.5
_READING_ERROR_CELSIUS = 0.5  # of a die temperature in whole degrees
# Of static power, where its slope is not known: more than any card is known to leak.
_LEAKIEST_FRACTION_PER_CELSIUS = 0.015


@dataclass(frozen=True, slots=True)
class Background:
    """Power at rest, static power at the temperature of the load, and the sensors behind them.

    `rest` is of the cool device before its warm-up, `static` of the last time that its temperature
    was set. None: not measured.
    """

    rest: IdlePower | None = None
    static: StaticPower | None = None
    sensors: SensorReport | None = None

    def static_at(self, die_celsius: float | None) -> StaticPower | None:
        """Return the static power at another temperature, by its slope; None: not measured."""
        static = self.static
        if static is None or static.watts is None or static.die_celsius is None:
            return static
        if die_celsius is None:
            reason = "the die temperature under load is not known"
            return replace(static, watts=None, absent=static.absent | {"watts": reason})
        off_celsius = die_celsius - static.die_celsius
        if static.watts_per_celsius is None:
            if abs(off_celsius) <= _NEAR_CELSIUS:
                unknown_celsius = abs(off_celsius) + _READING_ERROR_CELSIUS
                return _widened(static, _LEAKIEST_FRACTION_PER_CELSIUS * unknown_celsius)
            reason = (
                f"static power was measured {abs(off_celsius):.1f} C away from the load, and how "
                f"it changes is not known: {static.absent['watts_per_celsius']}"
            )
            return replace(static, watts=None, absent=static.absent | {"watts": reason})
        slope, watts = static.watts_per_celsius, static.watts
        moved_watts = watts.estimate + slope.estimate * off_celsius
        slope_half = (slope.high - slope.low) / 2 * abs(off_celsius)
        reading_half = abs(slope.estimate) * _READING_ERROR_CELSIUS
        half_width = math.hypot((watts.high - watts.low) / 2, slope_half, reading_half)
        moved = Interval(
            moved_watts, moved_watts - half_width, moved_watts + half_width, watts.confidence
        )
        return replace(static, watts=moved, die_celsius=die_celsius)


def _widened(static: StaticPower, fraction: float) -> StaticPower:
    """Return static power whose interval has room for an error of this fraction."""
    watts = static.watts
    assert watts is not None, "only what was measured can be widened"
    half_width = math.hypot((watts.high - watts.low) / 2, fraction * watts.estimate)
    low, high = watts.estimate - half_width, watts.estimate + half_width
    return replace(static, watts=Interval(watts.estimate, low, high, watts.confidence))
