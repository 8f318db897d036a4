"""A simulated device under its own load, whose true die temperature is noted as time passes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moeprof.device.protocol import Program
    from moeprof.device.sim.device import SimulatedDevice
    from moeprof.record import DeviceState

_WATCH_SECONDS = 0.02


@dataclass(slots=True)
class WatchedDevice:
    """A device and a program of it; `truth` holds (second, true die temperature)."""

    device: SimulatedDevice
    program: Program
    truth: list[tuple[float, float]] = field(default_factory=list)
    _noted_seconds: float = -math.inf

    @property
    def launches_per_sample(self) -> int:
        """The program's."""
        return self.program.launches_per_sample

    def __getattr__(self, name: str) -> object:
        return getattr(self.device, name)

    def state(self) -> DeviceState:
        """Read the sensors."""
        state = self.device.state()
        self._note()
        return state

    def sleep(self, seconds: float) -> None:
        """Idle."""
        self.device.sleep(seconds)
        self._note()

    def sample(self) -> float:
        """Take a sample of the program."""
        latency_seconds = self.program.sample()
        self._note()
        return latency_seconds

    def run(self, seconds: float) -> int:
        """Run the program."""
        num_launches = self.program.run(seconds)
        self._note()
        return num_launches

    def _note(self) -> None:
        body = self.device._body  # noqa: SLF001 - an audit knows what a measurement cannot
        if body.now_seconds - self._noted_seconds >= _WATCH_SECONDS:
            self._noted_seconds = body.now_seconds
            self.truth.append((body.now_seconds, body.die_celsius))
