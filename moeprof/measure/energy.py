"""The energy of one launch, from a counter read over a window that its own ticks bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.measure.ticks import CONFIDENCE, TickWatch, power_between
from moeprof.record import Energy, Interval

if TYPE_CHECKING:
    from moeprof.conditioning.hold import Hold
    from moeprof.device.protocol import Device, Program
    from moeprof.measure.settings import EnergySettings
    from moeprof.measure.ticks import Tick

CHUNK_SECONDS = 0.005
TEMPERATURE_SECONDS = 0.05
# The first tick after a pause can still hold energy of the pause: sensors average and lag.
LEAD_IN_TICKS = 1
# With pauses for the temperature, how often the longest window the whole may last.
_PATIENCE_RATIO = 4.0


def measure_energy(
    device: Device, program: Program, settings: EnergySettings, hold: Hold | None
) -> Energy:
    """Return the joules of one launch under continuous load, idle power included.

    The program runs in chunks of 5 ms with a read of the counter after each, so every tick is
    placed to half a chunk; the window starts and ends on ticks, and grows until its error is small
    enough. Where a temperature is held, load stops when the die leaves the tolerance, and further
    windows follow when it has returned. The interval covers the placing of ticks and the unevenness
    of power, not the gain of the board's sensor (up to 5 %, arXiv 2312.02741).

    Raises:
        DeviceLost: the device is gone.
        DeviceOutOfMemory: the program cannot go on.

    """
    counter = device.energy_counter
    if not settings.enabled:
        return Energy(None, None, None, "measuring energy is switched off")
    if counter is None:
        return Energy(None, None, None, device.energy_absent_reason or "no energy counter")
    watch = TickWatch(counter, device.now)
    start_seconds = device.now()
    seconds_max = _PATIENCE_RATIO * settings.window_seconds_max
    problem = None
    while problem is None and device.now() - start_seconds < seconds_max:
        if hold is not None:
            problem = hold.keep().problem
        _run_segment(device, program, watch, settings, hold)
        if _is_enough(watch, settings) or (hold is None and watch.num_resets == 0):
            break
    power = power_between(_counted(watch))
    if power is None or not power.launch_joules:
        return Energy(None, None, counter.source, problem or _too_few(watch, device, start_seconds))
    if power.edge_fraction > settings.relative_error_fraction:
        reason = (
            f"a window of {power.seconds:.2f} s on ticks of the counter leaves an error of "
            f"{100 * power.edge_fraction:.2g} %, {100 * settings.relative_error_fraction:g} % "
            "was asked"
        )
        return Energy(None, None, counter.source, reason)
    joules, half_width = power.launch_joules, power.launch_joules * power.half_width_fraction
    return Energy(
        per_launch=Interval(joules, joules - half_width, joules + half_width, CONFIDENCE),
        average_watts=power.joules / power.seconds,
        source=counter.source,
    )


def _run_segment(
    device: Device,
    program: Program,
    watch: TickWatch,
    settings: EnergySettings,
    hold: Hold | None,
) -> None:
    """Load the device until the window is long enough, the die too hot, or the counter reset."""
    watch.begin()
    watch.poll()
    start_seconds = looked_seconds = device.now()
    seconds_max = settings.window_seconds_max + settings.window_seconds_min
    num_resets, num_ticks = watch.num_resets, 0
    while device.now() - start_seconds < seconds_max and watch.num_resets == num_resets:
        watch.poll(program.run(CHUNK_SECONDS))
        if hold is not None and device.now() - looked_seconds >= TEMPERATURE_SECONDS:
            looked_seconds = device.now()
            if _is_too_hot(device, hold):
                return
        if watch.num_ticks() > num_ticks:
            num_ticks = watch.num_ticks()
            if _is_enough(watch, settings):
                return


def _is_too_hot(device: Device, hold: Hold) -> bool:
    celsius, settings = device.state().die_celsius, hold.settings
    if celsius is None or settings.hold_celsius is None:
        return False  # a dropped read: the next one is near
    return celsius > settings.hold_celsius + settings.tolerance_celsius


def _counted(watch: TickWatch) -> list[list[Tick]]:
    return [segment[LEAD_IN_TICKS:] for segment in watch.segments]


def _is_enough(watch: TickWatch, settings: EnergySettings) -> bool:
    if watch.seconds() < settings.window_seconds_min:
        return False  # cheap, and never wrong: it counts the lead-in too
    power = power_between(_counted(watch))
    if power is None or power.seconds < settings.window_seconds_min:
        return False
    is_precise = power.half_width_fraction <= settings.relative_error_fraction
    return is_precise or power.seconds >= settings.window_seconds_max


def _too_few(watch: TickWatch, device: Device, start_seconds: float) -> str:
    num_ticks = sum(len(segment) for segment in watch.segments)
    seconds = device.now() - start_seconds
    resets = f" and was reset {watch.num_resets} times" if watch.num_resets else ""
    return f"the energy counter moved only {num_ticks} times in {seconds:.1f} s{resets}"
