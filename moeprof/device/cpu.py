"""The CPU: torch runs the work, the host's clock times it, Linux tells the sensors."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from moeprof.device import cpu_sensors
from moeprof.device.cpu_ceilings import measure_ceilings
from moeprof.device.protocol import Ceilings, DeviceIdentity
from moeprof.device.rapl import open_rapl
from moeprof.errors import DeviceOutOfMemory
from moeprof.record import DeviceState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from moeprof.device.protocol import Program, Work
    from moeprof.hardware.gpu import GPU

# The host's clock resolves well under 1 us, so a sample of 1 ms is timed to 0.1 %.
SAMPLE_SECONDS = 1e-3
_MAX_LAUNCHES = 2048


def open_cpu() -> CpuDevice:
    """Open the CPU, which every machine has."""
    return CpuDevice()


class CpuDevice:
    """The CPU of this machine; see `moeprof.device.protocol.Device`.

    `l2_bytes` is the size of the last-level caches together: that is what cold data must exceed.
    """

    def __init__(self) -> None:
        self.torch_device = torch.device("cpu")
        name = cpu_sensors.cpu_name()
        versions = {"torch": torch.__version__, "threads": str(torch.get_num_threads())}
        self.identity = DeviceIdentity(
            kind="cpu", name=name, uuid=cpu_sensors.cpu_uuid(name), versions=versions
        )
        self.specification: GPU | None = None
        self.l2_bytes = cpu_sensors.last_level_cache_bytes()
        self.power_limit_watts: float | None = None
        self.energy_counter, self.energy_absent_reason = open_rapl()

    def now(self) -> float:
        """Return seconds on the monotonic clock."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Leave the CPU idle for `seconds`."""
        time.sleep(seconds)

    def wall_clock(self) -> float:
        """Return seconds since the Unix epoch."""
        return time.time()

    def state(self) -> DeviceState:
        """Read the temperature and the clock; Linux gives no other sensor without privileges."""
        celsius, no_celsius = cpu_sensors.die_celsius()
        hertz, no_hertz = cpu_sensors.clock_hertz()
        reasons = {
            "die_celsius": no_celsius,
            "sm_clock_hertz": no_hertz,
            "memory_celsius": "a CPU reports no memory temperature",
            "memory_clock_hertz": "a CPU reports no memory clock",
            "watts": "RAPL counts energy and reads no power",
            "clock_events": "Linux reports no clock events of a CPU",
            "throttle_seconds": "Linux reports no throttling time by cause",
        }
        return DeviceState(
            at_seconds=self.now(),
            die_celsius=celsius,
            sm_clock_hertz=hertz,
            absent={name: reason for name, reason in reasons.items() if reason is not None},
        )

    def free_bytes(self) -> int:
        """Return what may be allocated before the machine swaps or kills."""
        return cpu_sensors.free_bytes()

    def ceilings(self, dtype: str) -> Ceilings | None:
        """Return ceilings measured anew, in about half a second."""
        return measure_ceilings(dtype, cache_bytes=self.l2_bytes, free_bytes=self.free_bytes())

    def translating_errors(self, doing: str) -> AbstractContextManager[None]:
        """Turn errors of torch's CPU allocator into DeviceOutOfMemory."""
        return _memory_errors(doing)

    def prepare(self, work: Work) -> Program:
        """Warm the work up and find how many launches make one sample.

        Raises DeviceOutOfMemory.
        """
        return CpuProgram(work, self.now)

    def snapshot(self) -> dict[str, Any] | None:
        """Return None: a real CPU keeps its own state."""
        return None

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Refuse: no snapshot of a real CPU exists."""
        raise AssertionError(f"a real CPU cannot be set to a snapshot: {sorted(snapshot)}")

    def close(self) -> None:
        """Do nothing: the CPU was not taken from anybody."""


class CpuProgram:
    """Launches in a row, each on the next buffer set, also from one sample to the next."""

    def __init__(self, work: Work, clock: Callable[[], float]) -> None:
        self._work = work
        self._clock = clock
        self._next_set = 0
        self._launch(1)  # the first launch may allocate or pick an algorithm
        start = self._clock()
        launches, passed = 0, 0.0
        while passed < SAMPLE_SECONDS and launches < _MAX_LAUNCHES:
            self._launch(1)
            launches += 1
            passed = self._clock() - start
        wanted = math.ceil(SAMPLE_SECONDS * launches / passed) if passed > 0 else _MAX_LAUNCHES
        self.launches_per_sample = min(wanted, _MAX_LAUNCHES)

    def sample(self) -> float:
        """Return seconds per launch. Raises DeviceOutOfMemory."""
        start = self._clock()
        self._launch(self.launches_per_sample)
        return (self._clock() - start) / self.launches_per_sample

    def run(self, seconds: float) -> int:
        """Launch for about `seconds` and return the launches made. Raises DeviceOutOfMemory."""
        launches = 0
        deadline = self._clock() + seconds
        while launches == 0 or self._clock() < deadline:
            self._launch(self.launches_per_sample)
            launches += self.launches_per_sample
        return launches

    def close(self) -> None:
        """Do nothing: the program holds no more than its work."""

    def _launch(self, launches: int) -> None:
        with _memory_errors("running a kernel"):
            for _ in range(launches):
                self._work.launch(self._next_set)
                self._next_set = (self._next_set + 1) % self._work.num_buffer_sets


@contextmanager
def _memory_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch says so in a RuntimeError of its CPU allocator.
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        raise DeviceOutOfMemory(
            f"out of memory while {doing}: {error}", hint="Measure less at once."
        ) from error
