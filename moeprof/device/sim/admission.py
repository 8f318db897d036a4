"""Which work a simulated GPU takes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.device.simulated_work import SimulatedWork
from moeprof.errors import DeviceOutOfMemory, KernelUnsupported

if TYPE_CHECKING:
    from moeprof.device.protocol import Work


def admitted(work: Work, *, kind: str, free_bytes: int) -> SimulatedWork:
    """Return `work` as what a device of `kind` can price.

    Raises:
        KernelUnsupported: the work is not simulated.
        DeviceOutOfMemory: the local experts' weights, in every buffer set, do not fit.

    """
    if not isinstance(work, SimulatedWork):
        raise KernelUnsupported(
            f"{kind} prices simulated work only, got {type(work).__name__}",
            hint="Choose another device for this kernel, or a simulated kernel for this device.",
        )
    workload = work.workload
    needed_bytes = (
        workload.num_local_experts * workload.bytes_per_expert * max(1, work.num_buffer_sets)
    )
    if needed_bytes > free_bytes:
        raise DeviceOutOfMemory(
            f"{kind}: {workload.num_local_experts} experts in {work.num_buffer_sets} buffer sets "
            f"need {needed_bytes} bytes, {free_bytes} are free",
            hint="Spread the experts over more ranks.",
        )
    return work
