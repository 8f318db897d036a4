"""What moeprof asks of a device, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from moeprof.hardware.gpu import GPU
    from moeprof.record import DeviceState


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """Which device this is; the same after a restart, so that a sweep can resume on it.

    `kind` is what rows are grouped by (`cuda`, `cpu`, `sim:h200-sxm`); `simulated` is True where
    no number of it was measured. `versions` are the driver's and the libraries'.
    """

    kind: str
    name: str
    uuid: str
    simulated: bool = False
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The speeds that a roofline is drawn with, and where they come from."""

    bytes_per_second: float
    flops_per_second: float
    source: str


class Work(Protocol):
    """A kernel bound to its data: a launch works on one of the buffer sets that rotate.

    `l2_state` is `cold` where the sets together exceed the cache fivefold, else `warm`.
    """

    @property
    def num_buffer_sets(self) -> int:
        """How many buffer sets rotate, at least 1."""

    @property
    def l2_state(self) -> str:
        """Whether a launch finds its data in the cache: `cold` or `warm`."""

    def launch(self, buffer_set: int) -> None:
        """Launch once on the given buffer set, without waiting for the device."""


class Program(Protocol):
    """Work that a device has made ready to be timed and to be used as load."""

    launches_per_sample: int

    def sample(self) -> float:
        """Run one sample and return its seconds per launch.

        Raises DeviceLost where the device is gone, DeviceOutOfMemory where it cannot go on.
        """

    def run(self, seconds: float) -> int:
        """Keep the device busy for about `seconds`, wait for it, and return the launches made."""

    def close(self) -> None:
        """Free what was made ready."""


class EnergyCounter(Protocol):
    """A counter of joules that only grows, in steps; `source` is as in the dataset's column."""

    source: str

    def read(self) -> float | None:
        """Return joules since an arbitrary origin, or None where this read failed."""


class Device(Protocol):
    """One device. Time is the device's own: virtual where the device is simulated."""

    identity: DeviceIdentity
    specification: GPU | None
    l2_bytes: int
    power_limit_watts: float | None
    energy_counter: EnergyCounter | None
    energy_absent_reason: str | None

    def now(self) -> float:
        """Return seconds on this device's time line, from an arbitrary origin."""

    def sleep(self, seconds: float) -> None:
        """Leave the device idle for `seconds`."""

    def wall_clock(self) -> float:
        """Return seconds since the Unix epoch, for the record."""

    def state(self) -> DeviceState:
        """Read every sensor; a sensor that fails is None with its reason, never an exception.

        Raises DeviceLost where the device itself is gone.
        """

    def free_bytes(self) -> int:
        """Return how many bytes a kernel may still allocate."""

    def ceilings(self, dtype: str) -> Ceilings | None:
        """Return bandwidth and FLOP/s for `dtype`, or None where they are not known.

        A device without a datasheet measures them at every call.
        """

    def translating_errors(self, doing: str) -> AbstractContextManager[None]:
        """Turn the vendor's errors into DeviceOutOfMemory and DeviceLost; `doing` is for the words.

        For what is done outside the device's own methods, such as binding a kernel to data.
        """

    def prepare(self, work: Work) -> Program:
        """Make work ready: capture it into a graph on CUDA, find the launches per sample."""

    def snapshot(self) -> dict[str, Any] | None:
        """Return what a resumed sweep hands to `restore`; None: this device keeps its own state."""

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot, so that a killed simulated sweep ends as if undisturbed."""

    def close(self) -> None:
        """Let the device go."""
