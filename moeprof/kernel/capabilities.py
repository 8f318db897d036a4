"""Which kernels run on this machine, for `moeprof doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.device.capabilities import Capability
from moeprof.kernel.registry import kernel_names, load_kernel
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from moeprof.device.protocol import DeviceIdentity

_DTYPES = ("bf16", "fp16", "fp32", "fp8")


def capabilities(identity: DeviceIdentity) -> tuple[Capability, ...]:
    """Return one line for each kernel: the dtypes it takes on this device, or why none."""
    return tuple(_capability(name, identity) for name in kernel_names())


def _capability(name: str, identity: DeviceIdentity) -> Capability:
    try:
        kernel = load_kernel(name)
    except Exception as error:  # noqa: BLE001 - another package's code may fail in any way
        detail = f"cannot be loaded: {type(error).__name__}: {error}"
        return Capability(name, available=False, detail=detail, remedy="Mend the package.")
    refusals = {dtype: kernel.refusal(_probe(dtype), identity) for dtype in _DTYPES}
    runs = [dtype for dtype, reason in refusals.items() if reason is None]
    if runs:
        return Capability(name, available=True, detail=", ".join(runs), remedy=None)
    detail = str(refusals[_DTYPES[0]])
    return Capability(name, available=False, detail=detail, remedy="Choose another kernel.")


def _probe(dtype: str) -> Workload:
    layer = MoELayer(name="probe", hidden_size=512, expert_size=256, num_experts=8, top_k=2)
    return Workload(
        model="probe",
        layer=layer,
        weight_dtype=dtype,
        activation_dtype=dtype,
        batch_size=4,
        routing_pattern="uniform",
        routing_seed=0,
        placement="contiguous",
        ep_size=1,
        ep_rank=0,
        tp_size=1,
        rows_per_expert=(1,) * 8,
    )
