"""Small devices in virtual time, with scripted physics and sensors, so that no test waits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moeprof.device.protocol import Ceilings, DeviceIdentity
from moeprof.record import ClockEvent, DeviceState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moeprof.device.protocol import Work

AMBIENT_CELSIUS = 30.0


@dataclass
class FakeCounter:
    """Shows the device's joules as of its last tick."""

    device: FakeDevice
    tick_seconds: float = 0.1
    source: str = "simulated"

    def read(self) -> float | None:
        return self.device.shown_joules


@dataclass
class FakeDevice:
    """One thermal node above 30 C; `quantum` rounds the thermometer, `edit` scripts the sensors."""

    time_constant_seconds: float = 20.0
    full_load_rise_celsius: float = 40.0
    load_watts: float = 300.0
    idle_watts: float = 80.0
    quantum: float = 1.0
    edit: Callable[[dict[str, Any], float], None] = lambda reading, at: None
    tick_seconds: float = 0.1
    seconds: float = 0.0
    celsius: float = AMBIENT_CELSIUS
    joules: float = 0.0
    shown_joules: float | None = 0.0
    num_states: int = 0
    identity: DeviceIdentity = field(
        default_factory=lambda: DeviceIdentity("fake", "a fake device", "fake-0", simulated=True)
    )
    specification: None = None
    l2_bytes: int = 0
    power_limit_watts: float | None = 700.0
    energy_counter: FakeCounter | None = None
    energy_absent_reason: str | None = None

    def __post_init__(self) -> None:
        self.energy_counter = FakeCounter(self)

    def pass_time(self, seconds: float, *, loaded: bool) -> None:
        watts = self.load_watts if loaded else self.idle_watts
        goal = AMBIENT_CELSIUS + (self.full_load_rise_celsius if loaded else 0.0)
        self.celsius = goal + (self.celsius - goal) * math.exp(
            -seconds / self.time_constant_seconds
        )
        tick = math.floor((self.seconds + seconds) / self.tick_seconds + 1e-9)
        if tick > math.floor(self.seconds / self.tick_seconds + 1e-9):
            self.shown_joules = self.joules + watts * (tick * self.tick_seconds - self.seconds)
        self.joules += watts * seconds
        self.seconds += seconds

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.pass_time(seconds, loaded=False)

    def wall_clock(self) -> float:
        return self.seconds

    def state(self) -> DeviceState:
        self.num_states += 1
        shown = self.celsius
        if self.quantum:
            shown = self.quantum * round(shown / self.quantum)
        reading: dict[str, Any] = {
            "die_celsius": shown,
            "sm_clock_hertz": 1.98e9,
            "watts": 300.0,
            "clock_events": frozenset[ClockEvent](),
            "throttle_seconds": {},
        }
        self.edit(reading, self.seconds)
        return DeviceState(at_seconds=self.seconds, **reading)

    def free_bytes(self) -> int:
        return 0

    def ceilings(self, dtype: str) -> Ceilings | None:
        return None

    def prepare(self, work: Work) -> FakeProgram:
        return FakeProgram(self)

    def snapshot(self) -> None:
        return None

    def restore(self, snapshot: dict[str, Any]) -> None:
        raise AssertionError

    def close(self) -> None:
        pass


@dataclass
class FakeProgram:
    """Launches of `launch_seconds`; samples report `latencies` in turn, if there are any."""

    device: FakeDevice
    launch_seconds: float = 100e-6
    launches_per_sample: int = 10
    latencies: Iterator[float] | None = None

    def sample(self) -> float:
        self.device.pass_time(self.launch_seconds * self.launches_per_sample, loaded=True)
        return self.launch_seconds if self.latencies is None else next(self.latencies)

    def run(self, seconds: float) -> int:
        launches = max(1, math.ceil(seconds / self.launch_seconds))
        self.device.pass_time(launches * self.launch_seconds, loaded=True)
        return launches

    def close(self) -> None:
        pass
