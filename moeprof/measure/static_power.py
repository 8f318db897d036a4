"""The power that a device draws without working, at the temperature that its load has left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.measure.cooling import Cooling, fit_cooling
from moeprof.measure.ticks import CONFIDENCE, TickWatch
from moeprof.record import Interval

if TYPE_CHECKING:
    from moeprof.device.protocol import Device
    from moeprof.measure.settings import EnergySettings

POLL_SECONDS = 0.002
TEMPERATURE_SECONDS = 0.02
# Clocks go down a while after the last launch; until then the device does not idle.
LEAD_IN_SECONDS = 0.3
WATCHED_SECONDS = 4.0
_NUM_TICKS_MIN = 12
# Thermometers show whole degrees: from a smaller fall no slope can be told.
_FALL_CELSIUS_MIN = 4.0
_THERMOMETER_ERROR_CELSIUS = 0.5


@dataclass(frozen=True, slots=True)
class StaticPower:
    """Idle power and leakage at `die_celsius`, that of the load, and how it grows with temperature.

    `absent` says, by field name, why a figure is None.
    """

    watts: Interval | None
    die_celsius: float | None
    watts_per_celsius: Interval | None
    absent: dict[str, str]


def measure_static_power(
    device: Device, settings: EnergySettings, *, lag_seconds: float = 0.0
) -> StaticPower:
    """Return the static power at the end of the load that has just stopped.

    Watches the counter's ticks for 4 s while the die cools, fits power that decays to a lower one,
    and extends it back over the first 0.3 s, in which clocks go down. The slope compares that decay
    with the thermometer's. `lag_seconds` is the counter's. Raises DeviceLost.
    """
    counter = device.energy_counter
    if not settings.enabled:
        return _absent("measuring energy is switched off")
    if counter is None:
        return _absent(device.energy_absent_reason or "no energy counter")
    end_seconds = device.now()
    watch = TickWatch()
    watch.begin(end_seconds)
    readings: list[tuple[float, float]] = []
    looked_seconds = end_seconds - TEMPERATURE_SECONDS
    while device.now() - end_seconds < LEAD_IN_SECONDS + WATCHED_SECONDS:
        joules = counter.read()
        watch.note(device.now(), joules)
        if device.now() - looked_seconds >= TEMPERATURE_SECONDS:
            looked_seconds = device.now()
            celsius = device.state().die_celsius
            if celsius is not None:
                readings.append((device.now() - end_seconds, celsius))
        device.sleep(POLL_SECONDS)
    pieces = [ticks for ticks in watch.after(LEAD_IN_SECONDS + lag_seconds) if len(ticks) > 1]
    num_ticks = sum(len(ticks) for ticks in pieces)
    if num_ticks < _NUM_TICKS_MIN:
        return _absent(f"the energy counter moved only {num_ticks} times while the die cooled")
    cooling = fit_cooling(pieces, start_seconds=end_seconds, lag_seconds=lag_seconds)
    half_width = cooling.error_watts
    estimate = cooling.watts
    watts = Interval(estimate, estimate - half_width, estimate + half_width, CONFIDENCE)
    if half_width > settings.relative_error_fraction * estimate:
        return _absent(f"static power is known to {half_width:.2g} W only")
    return _with_temperature(watts, cooling, readings)


def _with_temperature(
    watts: Interval, cooling: Cooling, readings: list[tuple[float, float]]
) -> StaticPower:
    if not readings:
        why = "the thermometer gave no reading"
        absent = {"die_celsius": why, "watts_per_celsius": why}
        return StaticPower(watts, None, None, absent)
    at_seconds, celsius = np.array(readings).T
    decay = np.exp(-at_seconds / cooling.time_constant_seconds)
    (rest_celsius, fall_celsius), *_ = np.linalg.lstsq(
        np.stack([np.ones_like(decay), decay], axis=1), celsius, rcond=None
    )
    seen_celsius = float(fall_celsius * (decay[0] - decay[-1]))
    die_celsius = float(rest_celsius + fall_celsius)
    if seen_celsius < _FALL_CELSIUS_MIN:
        reason = f"the die cooled by {max(seen_celsius, 0.0):.1f} C only while it was watched"
        return StaticPower(watts, die_celsius, None, {"watts_per_celsius": reason})
    slope = cooling.falling_watts / float(fall_celsius)
    error_fraction = np.hypot(
        _THERMOMETER_ERROR_CELSIUS / seen_celsius,
        cooling.falling_error_watts / max(cooling.falling_watts, 1e-9),
    )
    half_width = abs(slope) * float(error_fraction)
    interval = Interval(slope, slope - half_width, slope + half_width, CONFIDENCE)
    return StaticPower(watts, die_celsius, interval, {})


def _absent(reason: str) -> StaticPower:
    names = ("watts", "die_celsius", "watts_per_celsius")
    return StaticPower(None, None, None, dict.fromkeys(names, reason))
