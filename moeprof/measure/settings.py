"""How precise a latency or an energy must be, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoppingSettings:
    """When a point has been timed well enough.

    `relative_half_width_fraction` is half the interval of the median over the median;
    `seconds_max` is device time, the pauses of a temperature hold included.
    """

    relative_half_width_fraction: float = 0.01
    confidence: float = 0.95
    num_samples_min: int = 20
    num_samples_max: int = 20_000
    seconds_max: float = 10.0


@dataclass(frozen=True, slots=True)
class EnergySettings:
    """How the energy of a launch is measured.

    The window grows from its minimum to its maximum until the error that the counter's ticks can
    cause is below `relative_error_fraction`. It counts seconds under load, pauses excluded.
    """

    enabled: bool = True
    relative_error_fraction: float = 0.01
    window_seconds_min: float = 1.0
    window_seconds_max: float = 5.0
