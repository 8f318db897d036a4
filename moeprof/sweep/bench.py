"""The bench: the device, its kernels and the conditions that points are measured under."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moeprof.conditioning.warm_up import WarmUp, warm_up
from moeprof.errors import DeviceLost, KernelUnsupported
from moeprof.measure.idle import measure_idle_watts
from moeprof.sweep.meter import MeteredProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moeprof.conditioning.settings import WarmUpSettings
    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Kernel, L2State
    from moeprof.measure.settings import EnergySettings
    from moeprof.record import DeviceState
    from moeprof.sweep.meter import Meter
    from moeprof.workload.workload import Workload


@dataclass(slots=True)
class Bench:
    """What stays between points: the warm-up done, and the idle power of the running block."""

    device: Device
    kernels: dict[str, Kernel]
    meter: Meter
    seed: int
    warmed: WarmUp | None = None
    idle_watts: float | None = None
    block_index: int | None = None
    _lost_detail: str | None = field(default=None, init=False)

    @contextmanager
    def loaded(
        self, kernel_name: str, workload: Workload, l2_state: L2State
    ) -> Iterator[tuple[MeteredProgram, str]]:
        """Bind a kernel to data, and yield the program with the L2 state it really has.

        Raises KernelUnsupported, DeviceOutOfMemory or DeviceLost.
        """
        kernel = self.kernels[kernel_name]
        if reason := kernel.refusal(workload, self.device.identity):
            raise KernelUnsupported(reason)
        work = kernel.bind(workload, self.device, l2_state=l2_state, seed=self.seed)
        program = MeteredProgram(self.device.prepare(work), self.meter)
        try:
            yield program, work.l2_state
        finally:
            program.close()

    def warm_up(
        self,
        program: MeteredProgram,
        settings: WarmUpSettings,
        on_progress: Callable[[float, DeviceState], None],
    ) -> WarmUp:
        """Warm the device up, once; a resumed simulation is still warm."""
        if self.warmed is None:
            with self.meter.spending("conditioning"):
                self.warmed = warm_up(self.device, program, settings, on_progress=on_progress)
        return self.warmed

    def read_idle(self, settings: EnergySettings) -> None:
        """Measure the idle power at the temperature that the device has now."""
        with self.meter.spending("conditioning"):
            self.idle_watts, _ = measure_idle_watts(self.device, settings)

    def snapshot(self) -> dict[str, Any] | None:
        """Return what a resumed sweep needs to go on; None where the device cools meanwhile."""
        device = self.device.snapshot()
        if device is None or self.warmed is None:
            return None
        return {
            "device": device,
            "warmed": self.warmed.as_dict(),
            "idle_watts": self.idle_watts,
            "block_index": self.block_index,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot of an earlier process."""
        self.device.restore(snapshot["device"])
        self.warmed = WarmUp(**snapshot["warmed"])
        self.idle_watts = snapshot["idle_watts"]
        self.block_index = snapshot["block_index"]


def lost(error: DeviceLost) -> str:
    """Return the words for a device that has stopped answering."""
    return f"the device has stopped answering: {error.message}"
