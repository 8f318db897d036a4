"""Which kernels run on this machine, and why the others do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moeprof.device.capabilities import Capability
from moeprof.errors import MoeprofError
from moeprof.kernel.absent import AbsentKernel
from moeprof.kernel.engines import ENGINE_KERNELS, ENGINES
from moeprof.kernel.engines.importing import versions_of
from moeprof.kernel.registry import kernel_names, loaded_or_absent
from moeprof.kernel.simulated import SimulatedKernel
from moeprof.workload.dtypes import activation_dtype
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from moeprof.device.protocol import DeviceIdentity

DTYPES: Final = ("bf16", "fp16", "fp32", "fp8", "fp8_block")


@dataclass(frozen=True, slots=True)
class KernelCapability:
    """The dtypes that a kernel takes on one device, else why it takes none, and its libraries."""

    name: str
    dtypes: tuple[str, ...]
    reason: str | None
    versions: dict[str, str]
    loaded: bool


def capabilities(identity: DeviceIdentity) -> tuple[Capability, ...]:
    """Return a line for each kernel, and one for all of the engines, for `moeprof doctor`.

    Engines are not imported, which takes seconds: `moeprof kernels list` does that.
    """
    own = (name for name in kernel_names() if name not in ENGINE_KERNELS)
    return (*(_line(_capability(name, identity)) for name in own), _engines())


def _engines() -> Capability:
    found = versions_of(*ENGINES)
    return Capability(
        "engines' kernels",
        available=bool(found),
        detail=", ".join(f"{name} {version}" for name, version in found.items())
        or f"none of {', '.join(ENGINES)} is installed",
        remedy="`moeprof kernels list` says what each of them runs here.",
    )


def kernel_capabilities(identity: DeviceIdentity) -> tuple[KernelCapability, ...]:
    """Return what each kernel does on this device; nothing of it raises."""
    return tuple(_capability(name, identity) for name in kernel_names())


def _capability(name: str, identity: DeviceIdentity) -> KernelCapability:
    # A simulated device prices names: there every kernel has a stand-in.
    kernel = SimulatedKernel(name) if identity.simulated else loaded_or_absent(name)
    if isinstance(kernel, AbsentKernel):
        return KernelCapability(name, (), kernel.reason, {}, loaded=False)
    try:
        refusals = {dtype: kernel.refusal(_probe(dtype), identity) for dtype in DTYPES}
        versions = kernel.versions()
    except MoeprofError as error:
        return KernelCapability(name, (), error.message, {}, loaded=False)
    except Exception as error:  # noqa: BLE001 - another package's code may fail in any way
        reason = f"cannot be asked: {type(error).__name__}: {error}"
        return KernelCapability(name, (), reason, {}, loaded=False)
    dtypes = tuple(dtype for dtype, reason in refusals.items() if reason is None)
    why = None if dtypes else refusals["bf16"]
    return KernelCapability(name, dtypes, why, versions, loaded=True)


def _line(found: KernelCapability) -> Capability:
    if found.dtypes:
        return Capability(found.name, available=True, detail=", ".join(found.dtypes), remedy=None)
    remedy = "Choose another kernel." if found.loaded else "Mend the package."
    return Capability(found.name, available=False, detail=str(found.reason), remedy=remedy)


def _probe(dtype: str) -> Workload:
    layer = MoELayer(name="probe", hidden_size=512, expert_size=256, num_experts=8, top_k=2)
    return Workload(
        model="probe",
        layer=layer,
        weight_dtype=dtype,
        activation_dtype=activation_dtype(dtype),
        batch_size=4,
        routing_pattern="uniform",
        routing_seed=0,
        placement="contiguous",
        ep_size=1,
        ep_rank=0,
        tp_size=1,
        rows_per_expert=(1,) * 8,
    )
