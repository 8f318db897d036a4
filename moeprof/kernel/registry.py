"""The expert kernels by name: moeprof's own, those of serving engines, and other packages'."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final, cast

from moeprof.errors import MoeprofError, WorkloadError
from moeprof.kernel.absent import AbsentKernel
from moeprof.kernel.engines import ENGINE_KERNELS

if TYPE_CHECKING:
    from moeprof.kernel.protocol import Kernel

ENTRY_POINT_GROUP = "moeprof.kernels"
AUTO: Final = "auto"
# The CUDA sources run on the CPU, to be compared with float64: no time of them means anything.
STAND_INS: Final = frozenset({"stream-host"})
# They copy every expert's weights for every token, or take one expert after the other: to be timed
# by name, never the fastest.
_NEVER_FASTEST: Final = frozenset({"transformers-batched", "transformers-eager"})

_BUILT_IN: Final = {
    "torch-loop": ("moeprof.kernel.torch_loop", "TorchLoop"),
    "torch-grouped": ("moeprof.kernel.torch_grouped", "TorchGrouped"),
    "stream": ("moeprof.kernel.cuda.expert_kernels", "StreamExperts"),
    "wgmma": ("moeprof.kernel.cuda.expert_kernels", "WgmmaExperts"),
    "moeprof": ("moeprof.kernel.cuda.expert_kernels", "TunedExperts"),
    "triton": ("moeprof.kernel.triton_work", "TritonExperts"),
    "stream-host": ("moeprof.kernel.cuda.host_experts", "HostExperts"),
    **ENGINE_KERNELS,
}


def kernel_names() -> tuple[str, ...]:
    """Return the names of all kernels, moeprof's own first; `auto` is none of them."""
    return (*_BUILT_IN, *sorted(_third_party()))


def candidate_names(kind: str) -> tuple[str, ...]:
    """Return the names of the kernels that `auto` chooses from on a kind of device."""
    # On a CPU Triton's kernels run in its interpreter, a thousand times slower.
    left_out = STAND_INS | _NEVER_FASTEST | ({"triton"} if kind == "cpu" else set())
    return tuple(name for name in kernel_names() if name not in left_out)


def check_name(name: str) -> None:
    """Return if there is a kernel of this name, without importing it.

    Raises:
        WorkloadError: there is none.

    """
    names = (*kernel_names(), AUTO)
    if name not in names:
        near = get_close_matches(name, names)
        guess = f"; did you mean {' or '.join(near)}?" if near else ""
        raise WorkloadError(
            f"kernel {name!r} is not known{guess}",
            hint="`moeprof kernels list` has them all; packages add theirs through the entry-point "
            f"group {ENTRY_POINT_GROUP}.",
        )


def load_kernel(name: str) -> Kernel:
    """Import and return a kernel that `kernel_names` lists. Raises whatever its package raises."""
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        return cast("Kernel", getattr(import_module(module), attribute)())
    kernel = cast("Kernel", _third_party()[name].load()())
    # What is found of a kernel is remembered by its name: one that another class gave it, or none,
    # would let it answer for that other kernel.
    if getattr(kernel, "name", None) != name:
        kernel.name = name
    return kernel


def loaded_or_absent(name: str) -> Kernel:
    """Return a kernel, or one in its place that says why it cannot be loaded."""
    try:
        return load_kernel(name)
    except MoeprofError as error:
        return AbsentKernel(name, error.message)
    except Exception as error:  # noqa: BLE001 - another package's code may fail in any way
        return AbsentKernel(name, f"cannot be loaded: {type(error).__name__}: {error}")


def _third_party() -> dict[str, EntryPoint]:
    # moeprof's own names cannot be taken by another package.
    found = entry_points(group=ENTRY_POINT_GROUP)
    reserved = {*_BUILT_IN, AUTO}
    return {entry.name: entry for entry in found if entry.name not in reserved}
