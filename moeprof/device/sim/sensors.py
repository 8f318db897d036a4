"""What a simulated GPU's sensors say: rounded, averaged, late, and at times nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from moeprof.device.sim.planted import NO_COUNTERS
from moeprof.record import ClockEvent, DeviceState

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.device.sim.body import Body
    from moeprof.device.sim.truth import Truth

DROPPED = "the simulated sensor dropped this read"
FAILED = "the simulated sensor has failed"
NO_MEMORY_CLOCK = "the specification gives no memory clock"

_STEPS_PER_WATT = 1000  # NVML reports milliwatts


class SimulatedEnergyCounter:
    """The simulated card's counter of joules since its driver was loaded."""

    source = "simulated"

    def __init__(self, read: Callable[[], float | None]) -> None:
        self._read = read

    def read(self) -> float | None:
        """Return joules, as of the counter's last tick, or None where this read failed.

        A read takes virtual time, as on a real card.

        Raises:
            DeviceLost: the device is gone.

        """
        return self._read()


class Sensors:
    """Reads a body, and drops some reads by chance."""

    def __init__(self, truth: Truth, seed: np.random.SeedSequence) -> None:
        self._truth = truth
        self._random = np.random.Generator(np.random.PCG64(seed))

    def joules(self, body: Body) -> float | None:
        """Return the energy counter in joules, or None for a dropped read."""
        dropped = self._random.random() < self._truth.dropped_reads_fraction
        return None if dropped else body.counter.joules()

    def state(self, body: Body) -> DeviceState:
        """Return every sensor's reading; a dropped one is None with its reason."""
        readings = self._readings(body)
        draws = self._random.random(len(readings))
        absent = {
            name: DROPPED
            for name, draw in zip(readings, draws.tolist(), strict=True)
            if draw < self._truth.dropped_reads_fraction
        }
        if readings["memory_clock_hertz"] is None:
            absent["memory_clock_hertz"] = NO_MEMORY_CLOCK
        if self._truth.planted.counters_absent:
            absent["throttle_seconds"] = NO_COUNTERS
        kept = {name: value for name, value in readings.items() if name not in absent}
        return DeviceState(at_seconds=body.now_seconds, absent=absent, **kept)

    def _readings(self, body: Body) -> dict[str, Any]:
        truth, planted = self._truth, self._truth.planted
        idle = body.is_idle
        mean_celsius = (body.die_celsius + body.sink_celsius) / 2
        return {
            "die_celsius": float(round(body.die_celsius)),
            "memory_celsius": float(round(mean_celsius + truth.memory_offset_celsius)),
            "sm_clock_hertz": truth.idle_sm_clock_hertz if idle else self._clock(body),
            "memory_clock_hertz": truth.memory_clock_hertz,
            "watts": self._watts(body),
            "clock_events": frozenset({ClockEvent.IDLE})
            if idle
            else planted.told_events(body.governor.events, body.now_seconds),
            "throttle_seconds": planted.told_seconds(body.throttle_seconds),
        }

    def _clock(self, body: Body) -> float:
        """Return the clock of busy SMs, less the steps that its reading wanders by."""
        truth, clock_hertz = self._truth, body.governor.sm_clock_hertz
        if truth.planted.clock_wander_steps:
            num_steps = self._random.integers(truth.planted.clock_wander_steps, endpoint=True)
            clock_hertz -= int(num_steps) * truth.sm_clock_step_hertz
        return clock_hertz

    def _watts(self, body: Body) -> float:
        """Return the mean of a window that ended at the last update, less the lag."""
        truth = self._truth
        update = math.floor(body.now_seconds / truth.power_update_seconds)
        end_seconds = update * truth.power_update_seconds - truth.power_lag_seconds
        start_seconds = end_seconds - truth.power_window_seconds
        used_joules = body.history.joules_at(end_seconds) - body.history.joules_at(start_seconds)
        watts = used_joules / truth.power_window_seconds * (1 + truth.power_gain_error_fraction)
        return round(watts * _STEPS_PER_WATT) / _STEPS_PER_WATT

    def snapshot(self) -> dict[str, Any]:
        """Return the state of chance, for `restore`."""
        return {"random": self._random.bit_generator.state}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._random.bit_generator.state = snapshot["random"]


def failed_state(at_seconds: float) -> DeviceState:
    """Return the reading of a device whose every sensor has failed."""
    names = (
        "die_celsius",
        "memory_celsius",
        "sm_clock_hertz",
        "memory_clock_hertz",
        "watts",
        "clock_events",
        "throttle_seconds",
    )
    return DeviceState(at_seconds=at_seconds, absent=dict.fromkeys(names, FAILED))
