"""The speed at which a device reads memory, measured in the session that is held against it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from moeprof.bench.intervals import inverse, median_interval
from moeprof.bench.result import Ceiling
from moeprof.errors import DeviceError, DeviceLost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.device.protocol import Device, Program, Work

READ_ONLY: Final = "read-only kernel"
_READ_ONLY_MODULE: Final = "moeprof.kernel.cuda.read_only_work"
# Far beyond any cache, and 0.2 ms on an H200, so that its launch costs nothing.
_READ_BYTES: Final = 2**30
_CACHES: Final = 10


@dataclass(slots=True)
class SessionCeiling:
    """Where a session's ceilings come from; `program` is interleaved where there is a kernel.

    `best_bytes_per_second` is the highest that the device itself has measured: a machine shared
    with others is at times slow, and never faster than it can be.
    """

    device: Device
    program: Program | None = None
    launch_bytes: int | None = None
    best_bytes_per_second: float | None = None
    absent_reason: str | None = None

    def from_samples(self, samples: Sequence[float]) -> Ceiling:
        """Return the ceiling of one point from the read-only kernel's seconds per launch."""
        assert self.launch_bytes is not None, "only the read-only kernel has samples"
        found = inverse(median_interval(samples), self.launch_bytes)
        return Ceiling(found.estimate, READ_ONLY)

    def without_kernel(self, dtype: str) -> Ceiling | None:
        """Return what the device tells or measures, None where it does neither."""
        found = self.device.ceilings(dtype) or self.device.ceilings("bf16")
        if found is None:
            return None
        best = max(found.bytes_per_second, self.best_bytes_per_second or 0.0)
        self.best_bytes_per_second = best
        return Ceiling(best, found.source)

    def close(self) -> None:
        """Free what was made ready."""
        if self.program is not None:
            self.program.close()


def open_ceiling(device: Device) -> SessionCeiling:
    """Make the read-only kernel ready on a GPU; elsewhere, or without it, the device is asked."""
    if device.identity.kind != "cuda":
        return SessionCeiling(device)
    num_bytes = max(_READ_BYTES, _CACHES * device.l2_bytes)
    try:
        module: Any = import_module(_READ_ONLY_MODULE)
        with device.translating_errors("binding the read-only kernel"):
            work = module.bind_read_only(num_bytes, device)
        program = device.prepare(cast("Work", work))
        with device.translating_errors("checking the read-only kernel"):
            is_right = work.is_right(0)
    except DeviceLost:
        raise
    except (ImportError, DeviceError, RuntimeError) as error:
        return SessionCeiling(device, absent_reason=str(error).splitlines()[0])
    if not is_right:
        program.close()
        return SessionCeiling(device, absent_reason="the read-only kernel did not read every word")
    return SessionCeiling(device, program, work.read_bytes)
