"""A kernel whose code cannot be loaded here: it refuses everything, and says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.errors import KernelUnsupported

if TYPE_CHECKING:
    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload


class AbsentKernel:
    """Stands for a kernel that failed to load; a sweep records its points as unsupported."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why it could not be loaded."""
        del workload, identity
        return self.reason

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Refuse. Raises KernelUnsupported."""
        del workload, device, l2_state, seed
        raise KernelUnsupported(f"{self.name}: {self.reason}", hint="Choose another kernel.")

    def versions(self) -> dict[str, str]:
        """Return nothing: no library of it runs."""
        return {}
