"""The energy of one launch, from a counter read over a window that its own ticks bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moeprof.measure.lead_in import lead_in_seconds
from moeprof.measure.sensor.stream import Quantity
from moeprof.measure.tick_rhythm import TickRhythm
from moeprof.measure.ticks import CONFIDENCE, NORMAL_QUANTILE, TickWatch, power_between
from moeprof.record import Energy, Interval

if TYPE_CHECKING:
    from moeprof.conditioning.hold import Hold
    from moeprof.device.protocol import Device, EnergyCounter, Program
    from moeprof.measure.sensor.figures import SensorReport
    from moeprof.measure.settings import EnergySettings
    from moeprof.measure.ticks import Power

TEMPERATURE_SECONDS = 0.05
# With pauses for the temperature, how often the longest window the whole may last.
_PATIENCE_RATIO = 4.0
_LONGEST_RUN_SECONDS = 0.25
# The device idles while it is read, at a power between nothing and that of the load.
_PAUSE_POWER_FRACTION = 0.5


@dataclass(slots=True)
class _Loading:
    """A program kept running, with the counter read between its chunks."""

    device: Device
    program: Program
    counter: EnergyCounter
    settings: EnergySettings
    hold: Hold | None
    lead_in_seconds: float
    rhythm: TickRhythm
    watch: TickWatch = field(default_factory=TickWatch)
    busy_seconds: float = 0.0
    pause_seconds: float = 0.0
    _num_launches: int = 0  # since the last reading

    def run(self) -> None:
        """Load the device until the window is long enough, the die too hot, or out of time."""
        start_seconds = looked_seconds = self.device.now()
        self.watch.begin(start_seconds)
        led_in_seconds = start_seconds + self.lead_in_seconds
        self.rhythm.begin(led_in_seconds)
        seconds_max = (
            self.settings.window_seconds_max
            + self.settings.window_seconds_min
            + self.lead_in_seconds
        )
        num_ticks = 0
        while self.device.now() - start_seconds < seconds_max:
            now = self.device.now()
            quiet_seconds = max(led_in_seconds - now, self.rhythm.quiet_seconds(now))
            self._work(min(quiet_seconds, self._unwatched_seconds()))
            if self.device.now() >= led_in_seconds:
                self._read()
            if (
                self.hold is not None
                and self.device.now() - looked_seconds >= self._unwatched_seconds()
            ):
                looked_seconds = self.device.now()
                is_too_hot = self.hold.is_too_hot(self.device.state())
                self.pause_seconds += self.device.now() - looked_seconds
                if is_too_hot:
                    break
            if len(self.watch.ticks) != num_ticks:
                num_ticks = len(self.watch.ticks)
                if self.is_enough():
                    break

    def power(self) -> Power | None:
        """Return the power while loaded, what was before each segment left out."""
        return power_between(self.watch.after(self.lead_in_seconds))

    def is_enough(self) -> bool:
        """Return whether the window is long and precise enough, or as long as it may be."""
        if self.watch.seconds() < self.settings.window_seconds_min:
            return False  # cheap, and never wrong
        power = self.power()
        if power is None or power.seconds < self.settings.window_seconds_min:
            return False
        half_width_fraction = math.hypot(self.edge_fraction(power), power.spread_fraction)
        is_precise = half_width_fraction <= self.settings.relative_error_fraction
        return is_precise or power.seconds >= self.settings.window_seconds_max

    @property
    def pause_fraction(self) -> float:
        """The share of all time that went into reading, not running."""
        return self.pause_seconds / (self.busy_seconds + self.pause_seconds)

    def edge_fraction(self, power: Power) -> float:
        """Return the half-width from the placing of ticks, and from what is drawn in pauses.

        That may be anything between nothing and the load's power.
        """
        spread = NORMAL_QUANTILE * _PAUSE_POWER_FRACTION * self.pause_fraction / math.sqrt(3)
        return math.hypot(power.edge_fraction, spread)

    def _read(self) -> None:
        num_before, resets_before = len(self.watch.ticks), self.watch.num_resets
        start_seconds = self.device.now()
        joules = self.counter.read()
        now = self.device.now()
        self.rhythm.read_seconds = now - start_seconds
        self.pause_seconds += now - start_seconds
        self.watch.note(now, joules, self._num_launches)
        self._num_launches = 0
        if self.watch.num_resets != resets_before:
            self.rhythm.begin(now)
        elif len(self.watch.ticks) != num_before:
            self.rhythm.note(self.watch.ticks[-1])

    def _work(self, wanted_seconds: float) -> None:
        start_seconds = self.device.now()
        wanted_seconds = max(self.rhythm.chunk_seconds, wanted_seconds)
        self._num_launches += self.program.run(wanted_seconds)
        seconds = self.device.now() - start_seconds
        self.busy_seconds += seconds
        self.rhythm.overrun_seconds = max(self.rhythm.overrun_seconds, seconds - wanted_seconds)

    def _unwatched_seconds(self) -> float:
        """Return for how long the die may go on being heated unseen."""
        if self.hold is None:
            return _LONGEST_RUN_SECONDS
        return min(max(TEMPERATURE_SECONDS, self.hold.unwatched_seconds()), _LONGEST_RUN_SECONDS)


def measure_energy(
    device: Device,
    program: Program,
    settings: EnergySettings,
    hold: Hold | None,
    sensors: SensorReport | None = None,
) -> Energy:
    """Return the joules of one launch under continuous load, idle power included.

    The program runs until the first tick is near that shows nothing from before the load
    (`sensors` knows lag and period; without it the longest lag known is waited for), then in chunks
    with a read of the counter after each, so that the tick is placed to half a chunk. Later ticks
    are awaited alike, ever more of them passed over, because the device idles while it is read. The
    window starts and ends on ticks, and grows until its error is small enough. Where a temperature
    is held, load stops when the die leaves the tolerance, and further windows follow when it has
    returned. The interval covers the placing of ticks, the unevenness of power and the pauses of
    reading, not the gain of the board's sensor (up to 5 %, arXiv 2312.02741).

    Raises:
        DeviceLost: the device is gone.
        DeviceOutOfMemory: the program cannot go on.

    """
    counter = device.energy_counter
    if not settings.enabled:
        return Energy(None, None, None, "measuring energy is switched off")
    if counter is None:
        return Energy(None, None, None, device.energy_absent_reason or "no energy counter")
    known = None if sensors is None else sensors.of(Quantity.ENERGY)
    loading = _Loading(
        device,
        program,
        counter,
        settings,
        hold,
        lead_in_seconds(sensors),
        TickRhythm(None if known is None else known.period_seconds),
    )
    start_seconds = device.now()
    seconds_max = _PATIENCE_RATIO * settings.window_seconds_max
    problem = None
    while problem is None and device.now() - start_seconds < seconds_max:
        if hold is not None:
            problem = hold.make_room().problem
        loading.run()
        if hold is None or loading.is_enough():
            break
    power = loading.power()
    if power is None or not power.launch_joules:
        reason = problem or _too_few(loading.watch, device.now() - start_seconds)
        return Energy(None, None, counter.source, reason)
    pauses, edge_fraction = loading.pause_fraction, loading.edge_fraction(power)
    if edge_fraction > settings.relative_error_fraction:
        reason = (
            f"a window of {power.seconds:.2f} s on ticks of the counter leaves an error of "
            f"{100 * edge_fraction:.2g} %, {100 * settings.relative_error_fraction:g} % was asked"
        )
        return Energy(None, None, counter.source, reason)
    half_width_fraction = math.hypot(edge_fraction, power.spread_fraction)
    joules = power.launch_joules * (1 - _PAUSE_POWER_FRACTION * pauses)
    half_width = joules * half_width_fraction
    return Energy(
        per_launch=Interval(joules, joules - half_width, joules + half_width, CONFIDENCE),
        average_watts=power.joules / power.seconds / (1 - _PAUSE_POWER_FRACTION * pauses),
        source=counter.source,
    )


def _too_few(watch: TickWatch, seconds: float) -> str:
    num_ticks = sum(len(segment.ticks) for segment in watch.segments)
    resets = f" and was reset {watch.num_resets} times" if watch.num_resets else ""
    return f"the energy counter moved only {num_ticks} times in {seconds:.1f} s{resets}"
