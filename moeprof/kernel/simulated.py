"""Any kernel's name on a simulated device, which prices it instead of running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from moeprof.device.simulated_work import SimulatedWork
from moeprof.errors import KernelUnsupported

if TYPE_CHECKING:
    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload


class SimulatedKernel:
    """A kernel known by its name only: it has no code, no data and no versions."""

    def __init__(self, name: str) -> None:
        self.name = name

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why the workload cannot run, as far as that is known without data."""
        if not identity.simulated:
            return f"{identity.name} is not simulated"
        return None if workload.num_rows else "no rows fall on this rank"

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return what the device prices; `seed` is the device's. Raises KernelUnsupported."""
        del seed
        if (reason := self.refusal(workload, device.identity)) is not None:
            raise KernelUnsupported(f"{self.name}: {reason}", hint="Choose another workload.")
        work = SimulatedWork(workload=workload, kernel=self.name, l2_state=l2_state)
        return cast("Work", work)  # frozen, where the protocol's attributes are plain ones

    def versions(self) -> dict[str, str]:
        """Return nothing: no library decides how fast this is."""
        return {}
