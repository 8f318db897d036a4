"""The sweep's time kept by purpose, so that its own overhead can be told from its work."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moeprof.device.protocol import Device, Program


class Interrupted(Exception):  # noqa: N818 - a request, not a fault
    """The user asked the sweep to stop; raised only where nothing is half done."""


@dataclass(slots=True)
class Meter:
    """Seconds by purpose: conditioning, checks, first launches, launches; the rest is overhead."""

    now: Callable[[], float]
    stop_requested: Callable[[], bool]
    seconds: dict[str, float] = field(default_factory=dict)
    _purpose: str | None = None

    @contextmanager
    def spending(self, purpose: str) -> Iterator[None]:
        """Count the time inside as spent on `purpose`; launches inside belong to it as well."""
        outer, self._purpose = self._purpose, purpose
        start = self.now()
        try:
            yield
        finally:
            self._purpose = outer
            self._add(purpose, self.now() - start)

    def spent(self, purpose: str, seconds: float) -> None:
        """Count seconds as spent on `purpose`, unless one that holds them is being counted."""
        if self._purpose is None:
            self._add(purpose, seconds)

    def check(self) -> None:
        """Raise Interrupted if the user has asked to stop."""
        if self.stop_requested():
            raise Interrupted

    def _add(self, purpose: str, seconds: float) -> None:
        self.seconds[purpose] = self.seconds.get(purpose, 0.0) + seconds


@dataclass(slots=True)
class MeteredProgram:
    """A program whose launches are counted, and which stops between two of them when asked."""

    program: Program
    meter: Meter
    launches_per_sample: int = field(init=False)

    def __post_init__(self) -> None:
        """Take over what callers read."""
        self.launches_per_sample = self.program.launches_per_sample

    def sample(self) -> float:
        """Run one sample and return its seconds per launch."""
        self.meter.check()
        start = self.meter.now()
        latency_seconds = self.program.sample()
        self.meter.spent("launches", self.meter.now() - start)
        return latency_seconds

    def run(self, seconds: float) -> int:
        """Keep the device busy for about `seconds` and return the launches made."""
        self.meter.check()
        start = self.meter.now()
        num_launches = self.program.run(seconds)
        self.meter.spent("launches", self.meter.now() - start)
        return num_launches

    def close(self) -> None:
        """Free what was made ready."""
        self.program.close()


class MeteredDevice:
    """A device whose pauses are counted as conditioning; all else goes to the device itself."""

    def __init__(self, device: Device, meter: Meter) -> None:
        self._device = device
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def sleep(self, seconds: float) -> None:
        """Leave the device idle for `seconds`."""
        self._meter.check()
        start = self._meter.now()
        self._device.sleep(seconds)
        self._meter.spent("conditioning", self._meter.now() - start)
