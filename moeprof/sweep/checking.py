"""Kernels bound to data, and checked before their first measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.kernel.auto import AutoKernel
from moeprof.kernel.check.verdict import CheckFailed
from moeprof.kernel.protocol import choice_of
from moeprof.kernel.registry import AUTO

if TYPE_CHECKING:
    from moeprof.device.protocol import Device, Work
    from moeprof.kernel.check.verdict import KernelVerdict
    from moeprof.kernel.protocol import Kernel, L2State
    from moeprof.sweep.meter import Meter
    from moeprof.workload.workload import Workload

PURPOSE = "checks"


class Checks:
    """Which kernels of a sweep are right; `unchecked` are those that the recipe takes on trust.

    `notes` say by kernel, dtype and sizes what was found, for the record of the run.
    """

    def __init__(self, device: Device, meter: Meter, unchecked: tuple[str, ...]) -> None:
        self._device = device
        self._meter = meter
        self._unchecked = frozenset(unchecked)
        self.notes: dict[str, str] = {}

    def bind(self, kernel: Kernel, workload: Workload, *, l2_state: L2State, seed: int) -> Work:
        """Return the kernel's work, compared with float64 where that was not done in its sizes.

        Nothing is compared on a simulated device, for a kernel that the recipe does not want
        checked, and for `auto`, which compares what it chooses from.

        Raises KernelUnsupported, CheckFailed, DeviceOutOfMemory, DeviceLost.
        """
        with self._device.translating_errors(f"binding {kernel.name} to data"):
            if isinstance(kernel, AutoKernel):
                with self._meter.spending(PURPOSE):
                    kernel.choose(workload, self._device, l2_state=l2_state, seed=seed)
            work = kernel.bind(workload, self._device, l2_state=l2_state, seed=seed)
        # After the bind, which made the weights in full: a check uses some of the same.
        if not self._device.identity.simulated and kernel.name != AUTO:
            self._require(kernel, workload, work)
        return work

    def _require(self, kernel: Kernel, workload: Workload, work: Work) -> None:
        layer = workload.layer
        sizes = f"{layer.hidden_size} x {workload.local_expert_size}"
        key = f"{kernel.name}, {workload.weight_dtype}, {sizes}"
        if (chosen := choice_of(work).kernel) is not None:
            key += f", {chosen}"
        if kernel.name in self._unchecked:
            self.notes[key] = "not checked: the recipe names it in workload.unchecked_kernels"
            return
        # Torch comes with the check, and a simulated sweep does without.
        from moeprof.kernel.check.quick import quick_check  # noqa: PLC0415

        with self._meter.spending(PURPOSE):
            verdict = quick_check(kernel, self._device, workload, choice=choice_of(work))
        self.notes[key] = _words(verdict)
        if verdict.fault is not None:
            raise CheckFailed(f"failed its check: {verdict.fault}")


def _words(verdict: KernelVerdict) -> str:
    if verdict.refused is not None:
        return f"not checked: {verdict.refused}"
    if verdict.fault is not None:
        return f"failed: {verdict.fault}"
    worst = verdict.worst
    assert worst is not None, "what passed was compared"
    return (
        f"passed: relative error {worst.relative_error_fraction:.2g}, "
        f"may be {worst.bound_fraction:g}"
    )
