"""The power that a device draws while nothing runs on it, and how warm it is then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.measure.ticks import CONFIDENCE, TickWatch, power_between
from moeprof.record import Interval

if TYPE_CHECKING:
    from moeprof.device.protocol import Device
    from moeprof.measure.settings import EnergySettings

POLL_SECONDS = 0.005
# Clocks go down a while after the last launch, and what the counter shows is later still.
LEAD_IN_SECONDS = 0.3
_WINDOWS_MAX = 2.0


@dataclass(frozen=True, slots=True)
class IdlePower:
    """Power asleep and the die temperature it was measured at; None, with the reason, if not."""

    watts: Interval | None
    die_celsius: float | None = None
    absent_reason: str | None = None


def measure_idle_power(device: Device, settings: EnergySettings) -> IdlePower:
    """Return the mean power of a device asleep.

    Takes one to two of the shortest energy windows of device time, bounded by ticks of the counter;
    a warm die cools meanwhile. Raises DeviceLost.
    """
    counter = device.energy_counter
    if not settings.enabled:
        return IdlePower(None, absent_reason="measuring energy is switched off")
    if counter is None:
        reason = device.energy_absent_reason or "no energy counter"
        return IdlePower(None, absent_reason=reason)
    device.sleep(LEAD_IN_SECONDS)
    watch = TickWatch()
    start_seconds = device.now()
    watch.begin(start_seconds)
    while device.now() - start_seconds < _WINDOWS_MAX * settings.window_seconds_min:
        joules = counter.read()
        watch.note(device.now(), joules)
        if watch.seconds() >= settings.window_seconds_min:
            break
        device.sleep(POLL_SECONDS)
    power = power_between(watch.after(0.0))
    if power is None:
        seconds = device.now() - start_seconds
        reason = f"the energy counter did not move often enough in {seconds:.1f} s of idling"
        return IdlePower(None, absent_reason=reason)
    if power.edge_fraction > settings.relative_error_fraction:
        reason = f"idle power is known to {100 * power.edge_fraction:.2g} % only: too few ticks"
        return IdlePower(None, absent_reason=reason)
    watts = power.joules / power.seconds
    half_width = watts * power.half_width_fraction
    interval = Interval(watts, watts - half_width, watts + half_width, CONFIDENCE)
    return IdlePower(interval, device.state().die_celsius)
