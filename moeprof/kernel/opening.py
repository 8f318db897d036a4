"""A kernel opened for a device by its name: itself, its stand-in, or the fastest of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.kernel.auto import open_auto
from moeprof.kernel.registry import AUTO, check_name, loaded_or_absent
from moeprof.kernel.simulated import SimulatedKernel

if TYPE_CHECKING:
    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Kernel


def open_kernel(name: str, device: Device) -> Kernel:
    """Return the kernel of this name, or its stand-in where the device is simulated.

    One that cannot be loaded refuses every workload. `auto` takes the fastest checked one.

    Raises:
        WorkloadError: there is no such kernel.

    """
    check_name(name)
    if name == AUTO:
        return open_auto(device)
    return SimulatedKernel(name) if device.identity.simulated else loaded_or_absent(name)
