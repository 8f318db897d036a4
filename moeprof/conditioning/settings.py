"""How long a device is warmed up, and at which temperature it is held."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmUpSettings:
    """How long to load the device before the first point, and what counts as steady.

    `latency_drift_fraction_max` bounds the relative drift of latency and of the SM clock over the
    tested end of the warm-up.
    """

    warm_up_seconds: float = 300.0
    drift_celsius_per_minute_max: float = 0.2
    latency_drift_fraction_max: float = 0.005


@dataclass(frozen=True, slots=True)
class HoldSettings:
    """The die temperature to hold.

    A hold is declared reached after `settle_seconds` inside the tolerance; `seconds_max` bounds the
    time spent on getting there.
    """

    hold_celsius: float
    tolerance_celsius: float = 1.0
    drift_celsius_per_minute_max: float = 0.2
    settle_seconds: float = 30.0
    seconds_max: float = 600.0
