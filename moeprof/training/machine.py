"""What the machine tells while it trains: speed, memory, and the device's sensors."""

from __future__ import annotations

import resource
import sys
import time
from typing import TYPE_CHECKING, Final

import torch

from moeprof.device.registry import open_device
from moeprof.errors import DeviceUnavailable
from moeprof.training.events import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.device.protocol import Device
    from moeprof.record import DeviceState

# A driver takes milliseconds to answer, and a temperature does not move faster.
_SENSOR_SECONDS: Final = 1.0
# Linux counts in kibibytes, macOS in bytes (getrusage(2) of each).
_RSS_UNIT_BYTES: Final = 1 if sys.platform == "darwin" else 1024


def open_trainer(selector: str) -> tuple[Device, torch.device]:
    """Return the device that a selector names, and where torch puts tensors for it.

    Raises DeviceUnavailable: it is not on this machine, or is a simulated one.
    """
    if selector.startswith("sim:"):
        raise DeviceUnavailable(
            f"{selector!r} is simulated, and training needs a real device",
            hint="Use cpu, or cuda:0 where there is one.",
        )
    device = open_device(selector, seed=0)
    if device.identity.kind == "cpu":
        return device, torch.device("cpu")
    _, _, index = selector.partition(":")
    return device, torch.device("cuda", int(index or 0))


class Machine:
    """Reads speed, memory and sensors; sensors at most once a second."""

    def __init__(
        self,
        device: Device,
        place: torch.device,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._place = place
        self._clock = clock
        self._read_at = float("-inf")
        self._state: DeviceState | None = None
        self._step_began = clock()

    def read(self, num_tokens: int) -> Reading:
        """Return what it tells of the step that has just been done, of so many tokens."""
        now = self._clock()
        seconds, self._step_began = max(now - self._step_began, 1e-9), now
        if self._state is None or now - self._read_at >= _SENSOR_SECONDS:
            self._read_at = now
            self._state = self._device.state()
        return Reading(
            tokens_per_second=num_tokens / seconds,
            peak_bytes=self._peak_bytes(),
            watts=self._state.watts,
            die_celsius=self._state.die_celsius,
        )

    def _peak_bytes(self) -> int:
        if self._place.type == "cuda":
            return torch.cuda.max_memory_allocated(self._place)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT_BYTES
