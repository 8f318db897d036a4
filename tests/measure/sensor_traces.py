"""Readings that a sensor of known period, window and lag makes of a known load."""

from __future__ import annotations

import numpy as np

from moeprof.measure.sensor.stream import Phase, Quantity, SensorStream

IDLE_WATTS = 60.0
LOAD_WATTS = 200.0
# Edges at many places of any period.
PHASES = tuple(
    Phase(1.0 + 0.23 * k + 0.011 * (k % 7), 1.14 + 0.23 * k + 0.017 * (k % 5), num_launches=100)
    for k in range(40)
)
END_SECONDS = 11.0


def joules_by(at_seconds: np.ndarray, phases: tuple[Phase, ...] = PHASES) -> np.ndarray:
    """Return the joules used by each moment."""
    loaded = sum(np.clip(at_seconds - p.start_seconds, 0, p.end_seconds - p.start_seconds)
                 for p in phases)  # fmt: skip
    return IDLE_WATTS * at_seconds + (LOAD_WATTS - IDLE_WATTS) * loaded


def polls(*, poll_seconds: float = 0.002, dropped_fraction: float = 0.0) -> np.ndarray:
    """Return the moments of polls that jitter and of which some fail."""
    random = np.random.default_rng(1)
    at_seconds = np.arange(0.0, END_SECONDS, poll_seconds)
    at_seconds += random.uniform(0, 0.5 * poll_seconds, len(at_seconds))
    return at_seconds[random.random(len(at_seconds)) >= dropped_fraction]


def power_stream(
    *,
    period_seconds: float = 0.1,
    window_seconds: float = 0.025,
    lag_seconds: float = 0.0,
    noise_watts: float = 0.0,
    step_watts: float = 0.0,
    at_seconds: np.ndarray | None = None,
) -> SensorStream:
    """Return a stream of power; `step_watts` rounds it."""
    at_seconds = polls() if at_seconds is None else at_seconds
    updates = np.floor(at_seconds / period_seconds).astype(int)
    ends = updates * period_seconds - lag_seconds
    watts = (joules_by(ends) - joules_by(ends - window_seconds)) / window_seconds
    noise = np.random.default_rng(2).standard_normal(updates.max() + 1)
    watts += noise_watts * noise[updates]
    if step_watts:
        watts = step_watts * np.round(watts / step_watts)
    return SensorStream("power", Quantity.POWER, at_seconds, watts)


def energy_stream(
    *, period_seconds: float = 0.1, lag_seconds: float = 0.0, at_seconds: np.ndarray | None = None
) -> SensorStream:
    """Return a stream of a counter."""
    at_seconds = polls() if at_seconds is None else at_seconds
    ends = np.floor(at_seconds / period_seconds) * period_seconds - lag_seconds
    return SensorStream("energy", Quantity.ENERGY, at_seconds, joules_by(ends) + 1000.0)
