"""The power that a device draws while nothing runs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.measure.ticks import TickWatch, power_between

if TYPE_CHECKING:
    from moeprof.device.protocol import Device
    from moeprof.measure.settings import EnergySettings

POLL_SECONDS = 0.005
LEAD_IN_TICKS = 1
# Clocks go down a while after the last launch; until then the device does not idle.
LEAD_IN_SECONDS = 0.3
_WINDOWS_MAX = 2.0


def measure_idle_watts(device: Device, settings: EnergySettings) -> tuple[float | None, str | None]:
    """Return the mean power of a device asleep, in watts, and why there is none where it is None.

    Takes one to two of the shortest energy windows of device time, bounded by ticks of the counter;
    the die cools meanwhile. Raises DeviceLost.
    """
    counter = device.energy_counter
    if not settings.enabled:
        return None, "measuring energy is switched off"
    if counter is None:
        return None, device.energy_absent_reason or "no energy counter"
    device.sleep(LEAD_IN_SECONDS)
    watch = TickWatch(counter, device.now)
    watch.begin()
    start_seconds = device.now()
    while device.now() - start_seconds < _WINDOWS_MAX * settings.window_seconds_min:
        watch.poll()
        if watch.seconds() >= settings.window_seconds_min:
            break
        device.sleep(POLL_SECONDS)
    power = power_between([segment[LEAD_IN_TICKS:] for segment in watch.segments])
    if power is None:
        seconds = device.now() - start_seconds
        return None, f"the energy counter did not move often enough in {seconds:.1f} s of idling"
    if power.edge_fraction > settings.relative_error_fraction:
        error_percent = 100 * power.edge_fraction
        return None, f"idle power is known to {error_percent:.2g} % only: too few ticks"
    return power.joules / power.seconds, None
