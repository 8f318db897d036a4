"""How long after a switch of load a sensor may still show what was before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.measure.sensor.stream import Quantity

if TYPE_CHECKING:
    from moeprof.measure.sensor.figures import SensorReport

# Of a sensor that nobody looked at: the longest seen, below the 1 s averages of power readings,
# that no energy counter is made of (arXiv 2312.02741).
_LAG_SECONDS = 0.05
_WINDOW_SECONDS = 0.1


def lead_in_seconds(sensors: SensorReport | None) -> float:
    """Return the counter's lag and the averaging behind it, as found or else as long as any known.

    A counter sums what its power sensor says, so its first tick after a switch can hold some of
    the sensor's window before it. A window longer than any that counters are made of is that of
    the power reading alone.
    """
    lag_seconds, window_seconds = _LAG_SECONDS, _WINDOW_SECONDS
    if sensors is not None:
        counter, power = sensors.of(Quantity.ENERGY), sensors.of(Quantity.POWER)
        if counter is not None and counter.lag_seconds is not None:
            assert counter.lag_error_seconds is not None
            lag_seconds = max(0.0, counter.lag_seconds) + counter.lag_error_seconds
        if power is not None and power.window_seconds is not None:
            assert power.window_error_seconds is not None
            found_seconds = power.window_seconds + power.window_error_seconds
            window_seconds = min(found_seconds, _WINDOW_SECONDS)
    return lag_seconds + window_seconds
