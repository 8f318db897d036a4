"""A device's sensors characterised by switching load on and off under steady polling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from moeprof.measure.sensor.figures import SensorReport, describe_sensors
from moeprof.measure.sensor.stream import Phase, Quantity, Recording, SensorStream, Unclear
from moeprof.measure.sensor.updates import find_updates

if TYPE_CHECKING:
    from moeprof.device.protocol import Device, Program

POLL_SECONDS = 0.001
# A long phase of each kind shows the period, and whether the reading rises slowly.
LONG_SECONDS = 1.2
# A reading that takes so long for the middle of its rise is an average over twice that, or more:
# longer phases show its whole ramp.
_SLOW_SECONDS = 0.15
_MIDDLE_FRACTIONS = (0.2, 0.8)
SLOW_SECONDS = 2.0
# Then edges whose places in the sensor's period differ, so that windows and gaps are both met.
NUM_EDGES = 36
SHORT_SECONDS_MIN = 0.04
_PERIOD_SECONDS_STAND_IN = 0.1
_GOLDEN_FRACTION = 0.6180339887498949


@dataclass(slots=True)
class _Recorder:
    """Polls both sensors after every millisecond of load or sleep.

    The device idles while it is read: every stretch of load is a phase of its own, no shorter than
    a poll, so that the load is weakened to a half at most.
    """

    device: Device
    program: Program
    phases: list[Phase] = field(default_factory=list)
    _watts: list[tuple[float, float]] = field(default_factory=list)
    _joules: list[tuple[float, float]] = field(default_factory=list)
    _poll_seconds: float = 0.0

    def idle(self, until_seconds: float) -> None:
        while self.device.now() < until_seconds:
            self.device.sleep(POLL_SECONDS)
            self._poll()

    def load(self, until_seconds: float) -> None:
        while True:
            start_seconds = self.device.now()
            num_launches = self.program.run(max(POLL_SECONDS, self._poll_seconds))
            end_seconds = self.device.now()
            self.phases.append(Phase(start_seconds, end_seconds, num_launches))
            self._poll()
            if self.device.now() >= until_seconds:
                break

    def recording(self) -> Recording:
        sources = (
            ("power reading", Quantity.POWER, self._watts),
            ("energy counter", Quantity.ENERGY, self._joules),
        )
        streams = []
        for name, quantity, reads in sources:
            if reads:
                at_seconds, values = np.array(reads).T
                streams.append(SensorStream(name, quantity, at_seconds, values))
        return Recording(tuple(streams), tuple(self.phases), is_paused=True)

    def _poll(self) -> None:
        start_seconds = self.device.now()
        counter = self.device.energy_counter
        joules = None if counter is None else counter.read()
        if joules is not None:
            self._joules.append((self.device.now(), joules))
        watts = self.device.state().watts
        if watts is not None:
            self._watts.append((self.device.now(), watts))
        self._poll_seconds = self.device.now() - start_seconds


def record_sensors(device: Device, program: Program) -> Recording:
    """Return both sensors under a load made to tell their period, window and lag.

    Takes 5 to 8 s of device time, and 6 s more where the reading is slow.
    Raises DeviceLost, DeviceOutOfMemory.
    """
    recorder = _Recorder(device, program)
    recorder.idle(device.now() + LONG_SECONDS)
    recorder.load(device.now() + LONG_SECONDS)
    recorder.idle(device.now() + LONG_SECONDS)
    if _rises_slowly(recorder.recording()):
        recorder.load(device.now() + SLOW_SECONDS)
        recorder.idle(device.now() + SLOW_SECONDS)
        recorder.load(device.now() + SLOW_SECONDS)
    period_seconds = _slowest_period(recorder.recording())
    for edge in range(NUM_EDGES):
        earliest_seconds = device.now() + SHORT_SECONDS_MIN
        place_fraction = (edge * _GOLDEN_FRACTION) % 1
        wait_fraction = (place_fraction - earliest_seconds / period_seconds) % 1
        until_seconds = earliest_seconds + wait_fraction * period_seconds
        (recorder.idle if edge % 2 else recorder.load)(until_seconds)
    recorder.idle(device.now() + 2 * period_seconds + SHORT_SECONDS_MIN)
    return recorder.recording()


def characterise_sensors(device: Device, program: Program) -> SensorReport:
    """Return period, window and lag of a device's power reading and energy counter.

    Raises DeviceLost, DeviceOutOfMemory.
    """
    return describe_sensors(record_sensors(device, program))


def _rises_slowly(recording: Recording) -> bool:
    """Return whether the power reading was long on its way up; the first load came after rest."""
    assert recording.phases, "the load has run"
    power = next((s for s in recording.streams if s.quantity is Quantity.POWER), None)
    if power is None:
        return False
    since = power.at_seconds >= recording.phases[0].start_seconds
    at_seconds, watts = power.at_seconds[since], power.values[since]
    rise = slice(0, int(np.argmax(watts)) + 1)
    low, high = float(watts.min()), float(watts.max())
    is_above = [watts[rise] >= low + share * (high - low) for share in _MIDDLE_FRACTIONS]
    start, end = (float(at_seconds[int(np.argmax(above))]) for above in is_above)
    return end - start > _SLOW_SECONDS


def _slowest_period(recording: Recording) -> float:
    found = [find_updates(stream) for stream in recording.streams]
    periods = [each.period_seconds for each in found if not isinstance(each, Unclear)]
    return max(periods, default=_PERIOD_SECONDS_STAND_IN)
