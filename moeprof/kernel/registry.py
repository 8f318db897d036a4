"""The expert kernels by name: those that come with moeprof, and those of other packages."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, cast

from moeprof.errors import WorkloadError
from moeprof.kernel.simulated import SimulatedKernel

if TYPE_CHECKING:
    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Kernel

ENTRY_POINT_GROUP = "moeprof.kernels"

_BUILT_IN = {
    "torch-loop": ("moeprof.kernel.torch_loop", "TorchLoop"),
    "torch-grouped": ("moeprof.kernel.torch_grouped", "TorchGrouped"),
}


def kernel_names() -> tuple[str, ...]:
    """Return the names of all kernels, moeprof's own first."""
    return (*_BUILT_IN, *sorted(_third_party()))


def open_kernel(name: str, device: Device) -> Kernel:
    """Return the kernel of this name, or its stand-in where the device is simulated.

    Raises:
        WorkloadError: there is no such kernel.

    """
    check_name(name)
    return SimulatedKernel(name) if device.identity.simulated else load_kernel(name)


def check_name(name: str) -> None:
    """Return if there is a kernel of this name, without importing it.

    Raises:
        WorkloadError: there is none.

    """
    if name not in kernel_names():
        near = get_close_matches(name, kernel_names()) or kernel_names()
        raise WorkloadError(
            f"kernel {name!r} is not known; did you mean {' or '.join(near)}?",
            hint=f"Packages add kernels through the entry-point group {ENTRY_POINT_GROUP}.",
        )


def load_kernel(name: str) -> Kernel:
    """Import and return a kernel that `kernel_names` lists."""
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        return cast("Kernel", getattr(import_module(module), attribute)())
    return cast("Kernel", _third_party()[name].load()())


def _third_party() -> dict[str, EntryPoint]:
    # moeprof's own names cannot be taken by another package.
    found = entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: entry for entry in found if entry.name not in _BUILT_IN}
