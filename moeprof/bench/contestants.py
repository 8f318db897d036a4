"""Kernels brought to the start of a point: checked, bound and made ready, or out with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from moeprof.bench.result import BenchRow, RowStatus
from moeprof.errors import DeviceLost, DeviceOutOfMemory, KernelUnsupported
from moeprof.kernel.opening import open_kernel
from moeprof.kernel.protocol import choice_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from moeprof.device.protocol import Device, Program
    from moeprof.kernel.protocol import Choice, Kernel, L2State
    from moeprof.workload.workload import Workload


class Check(Protocol):
    """Tells whether a kernel computes what it should."""

    def __call__(
        self, kernel: Kernel, device: Device, workload: Workload, *, choice: Choice
    ) -> str | None:
        """Return why the kernel, with this choice, is wrong at such workloads, else None."""


def float64_check(
    kernel: Kernel, device: Device, workload: Workload, *, choice: Choice
) -> str | None:
    """Compare with float64 what can be compared, once for each choice and layer; a Check."""
    if device.identity.simulated:
        return None
    # Torch comes with the check, and a simulated device does without.
    from moeprof.kernel.check.quick import quick_check  # noqa: PLC0415

    fault = quick_check(kernel, device, workload, choice=choice).fault
    return None if fault is None else f"failed its check: {fault}"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A kernel that is ready to be timed."""

    program: Program
    l2_state: str
    choice: Choice


@dataclass(frozen=True, slots=True)
class Field:
    """Those that are ready, by name, and the rows of those that are not."""

    ready: dict[str, Contestant]
    out: tuple[BenchRow, ...]

    def close(self) -> None:
        """Free what was made ready."""
        for contestant in self.ready.values():
            contestant.program.close()


def open_kernels(names: Sequence[str], device: Device) -> dict[str, Kernel]:
    """Return kernels by name. Raises WorkloadError for a name that is not known."""
    return {name: open_kernel(name, device) for name in names}


def versions_of(kernels: Iterable[Kernel]) -> dict[str, str]:
    """Return the versions of all libraries that decide how fast the kernels are."""
    versions: dict[str, str] = {}
    for kernel in kernels:
        try:
            versions |= kernel.versions()
        except Exception as error:  # noqa: BLE001 - another package's code may fail in any way
            versions[kernel.name] = f"unknown: {type(error).__name__}: {error}"
    return versions


def assemble(
    kernels: Mapping[str, Kernel],
    workload: Workload,
    device: Device,
    *,
    l2_state: L2State,
    seed: int,
    check: Check | None,
) -> Field:
    """Make every kernel ready that takes the workload, is right, and fits beside the others.

    Raises:
        DeviceLost: the device is gone.

    """
    ready: dict[str, Contestant] = {}
    out: list[BenchRow] = []
    for name, kernel in kernels.items():
        found = _enter(kernel, workload, device, l2_state=l2_state, seed=seed, check=check)
        if isinstance(found, Contestant):
            ready[name] = found
        else:
            status, detail = found
            out.append(BenchRow(name, status, detail))
    return Field(ready, tuple(out))


def out_row(name: str, error: Exception) -> BenchRow:
    """Return the row of a kernel that an error has put out."""
    return BenchRow(name, *_told(error))


def _enter(
    kernel: Kernel,
    workload: Workload,
    device: Device,
    *,
    l2_state: L2State,
    seed: int,
    check: Check | None,
) -> Contestant | tuple[RowStatus, str]:
    try:
        if (reason := kernel.refusal(workload, device.identity)) is not None:
            return RowStatus.UNSUPPORTED, reason
        with device.translating_errors(f"binding {kernel.name} to data"):
            work = kernel.bind(workload, device, l2_state=l2_state, seed=seed)
            choice = choice_of(work)
            if check is not None and (fault := check(kernel, device, workload, choice=choice)):
                return RowStatus.FAILED, fault
        return Contestant(device.prepare(work), work.l2_state, choice)
    except DeviceLost:
        raise
    except Exception as error:  # noqa: BLE001 - another package's code may fail in any way
        return _told(error)


def _told(error: Exception) -> tuple[RowStatus, str]:
    message = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, DeviceOutOfMemory):
        return RowStatus.OUT_OF_MEMORY, message
    if isinstance(error, KernelUnsupported):
        return RowStatus.UNSUPPORTED, message
    return RowStatus.FAILED, f"{type(error).__name__}: {message}"
