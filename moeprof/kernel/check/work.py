"""What a check asks of bound work: its data, its outputs, and one device to run on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from moeprof.kernel.buffers import Buffers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from moeprof.device.protocol import Device, Work


class CheckedWork(Protocol):
    """Work whose data and output can be looked at."""

    @property
    def num_buffer_sets(self) -> int:
        """How many buffer sets rotate."""

    @property
    def l2_state(self) -> str:
        """Whether a launch finds its data in the cache."""

    @property
    def buffers(self) -> Buffers:
        """The data."""

    def launch(self, buffer_set: int) -> None:
        """Compute the output of one buffer set."""

    def output(self, buffer_set: int) -> Tensor:
        """Return the output of one buffer set."""


def not_checkable(work: Work) -> str | None:
    """Return why work cannot be compared with float64, or None if it can."""
    if isinstance(getattr(work, "buffers", None), Buffers) and hasattr(work, "output"):
        return None
    return "its work shows neither data nor output, so that nothing can be compared"


@contextmanager
def on_device(device: Device) -> Iterator[None]:
    """Run what is inside on the device, with its errors translated; kernels ask for the current."""
    where = getattr(device, "torch_device", None)
    with device.translating_errors("checking a kernel"):
        if where is not None and where.type == "cuda":
            with torch.cuda.device(where):
                yield
        else:
            yield


class SmallCache:
    """A device whose cache is so small that two buffer sets of a workload are cold.

    A check needs more than one set, and no more memory than that.
    """

    def __init__(self, device: Device, l2_bytes: int) -> None:
        self._device = device
        self.l2_bytes = l2_bytes
        # Named here because Python 3.12 looks for a protocol's members past __getattr__.
        self.torch_device = getattr(device, "torch_device", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)
