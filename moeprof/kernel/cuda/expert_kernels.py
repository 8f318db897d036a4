"""moeprof's CUDA expert kernels: streaming, warpgroup, and whichever the tuned table names."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from moeprof.errors import KernelUnsupported
from moeprof.kernel.buffers import TorchDevice, allocate
from moeprof.kernel.cuda import cache, stream, wgmma
from moeprof.kernel.cuda.compile import compiler_version
from moeprof.kernel.cuda.experts import make_scratch
from moeprof.kernel.cuda.forms import (
    Form,
    default_name,
    default_stream,
    default_wgmma,
    forms,
)
from moeprof.kernel.cuda.launch import architecture_for, load
from moeprof.kernel.cuda.tuned import TunedShape, load_tables, look_up
from moeprof.kernel.protocol import Choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.buffers import Buffers
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload


class CudaExperts:
    """The fused expert kernel in the variant that `choose` names for a workload."""

    def __init__(
        self, name: str, choose: Callable[[Workload, str], tuple[str, str | None]]
    ) -> None:
        self.name = name
        self._choose = choose

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        if identity.kind != "cuda":
            return f"it runs on NVIDIA GPUs, not on {identity.kind}"
        if workload.num_rows == 0:
            return "no rows fall on this rank"
        architecture = architecture_for(identity.versions.get("capability", ""))
        if architecture is None:
            return f"it is not built for compute capability {identity.versions.get('capability')}"
        # What a rule chooses from, it chooses for sizes and dtypes that some variant takes.
        if (reason := stream.refusal(workload)) is not None:
            return reason
        try:
            compiler_version()
            name, _ = self._choose(workload, architecture)
        except KernelUnsupported as error:
            return error.message
        return forms(architecture)[name].refusal(workload)

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data, the kernel built and loaded.

        Raises KernelUnsupported, DeviceOutOfMemory.
        """
        if (reason := self.refusal(workload, device.identity)) is not None:
            raise KernelUnsupported(f"{self.name}: {reason}", hint="Choose another kernel.")
        assert isinstance(device, TorchDevice)
        architecture = architecture_for(device.identity.versions["capability"])
        assert architecture is not None
        name, config_file = self._choose(workload, architecture)
        form = forms(architecture)[name]
        buffers = allocate(workload, device, l2_state=l2_state, seed=seed, combined=True)
        choice = Choice(kernel=name, config_file=config_file)
        return cast("Work", ExpertWork(buffers, form, architecture, choice))

    def versions(self) -> dict[str, str]:
        """Return the compiler's version, which decides the machine code; nothing without one."""
        try:
            return {"nvrtc": compiler_version()}
        except KernelUnsupported:
            return {}  # `refusal` says why; a sweep of other kernels goes on


class ExpertWork:
    """The bound kernel: one driver call a launch, no wait, no allocation."""

    def __init__(self, buffers: Buffers, form: Form, architecture: str, choice: Choice) -> None:
        self.buffers = buffers
        self.choice = choice
        self.num_buffer_sets = buffers.num_buffer_sets
        self.l2_state: str = buffers.l2_state
        self._where = buffers.tokens.device
        loaded = load(cache.build(form.variant, architecture), self._where.index)
        num_blocks = loaded.num_multiprocessors * loaded.max_blocks_per_multiprocessor
        sizes = (buffers.workload, buffers.tokens.shape[1], num_blocks)
        self._scratch = make_scratch(
            buffers,
            num_partials=form.num_partials(*sizes),
            num_counters=form.num_counters(*sizes),
        )
        # Blocks wait for each other's rows, so all must be resident.
        self._launches = [
            loaded.prepare(
                num_blocks, form.arguments(buffers, self._scratch, each), cooperative=True
            )
            for each in range(self.num_buffer_sets)
        ]

    def launch(self, buffer_set: int) -> None:
        """Compute one buffer set's outputs, without waiting for the device."""
        self._launches[buffer_set](torch.cuda.current_stream(self._where).cuda_stream)

    def output(self, buffer_set: int) -> Tensor:
        """Return `[num_tokens, hidden_size]`, as the last launch left it; NaN before the first."""
        return self.buffers.outputs[buffer_set]


class StreamExperts(CudaExperts):
    """`kernels/experts_stream.cu` with the built-in rule: for few rows, and on every GPU."""

    def __init__(self) -> None:
        super().__init__("stream", lambda workload, arch: (default_stream(workload, arch), None))


class WgmmaExperts(CudaExperts):
    """`kernels/experts_wgmma.cu` with the built-in rule: for Hopper, and more rows."""

    def __init__(self) -> None:
        super().__init__("wgmma", _wgmma)


class TunedExperts(CudaExperts):
    """The variant that the tuned tables name for the shape, else the built-in rule's."""

    def __init__(self) -> None:
        super().__init__("moeprof", _tuned)


def variant_kernels(identity: DeviceIdentity) -> tuple[str, dict[str, CudaExperts]]:
    """Return the device's architecture, and a kernel of each variant built for it by its name.

    Raises:
        KernelUnsupported: there is none for this device.

    """
    capability = identity.versions.get("capability", "unknown")
    if (architecture := architecture_for(capability)) is None:
        raise KernelUnsupported(
            f"moeprof's kernels are not built for {identity.name}, compute capability {capability}",
            hint="They are for 8.0, 8.6, 8.9, 9.0, 10.0, 10.3 and 12.0.",
        )
    return architecture, {name: _only(name) for name in forms(architecture)}


def _only(name: str) -> CudaExperts:
    return CudaExperts(name, lambda _workload, _architecture: (name, None))


def _wgmma(workload: Workload, architecture: str) -> tuple[str, None]:
    if (name := default_wgmma(workload, architecture)) is None:
        reason = wgmma.refusal(workload) or f"it is for Hopper's sm_90a, not for {architecture}"
        raise KernelUnsupported(reason, hint="Choose stream, which runs on every GPU from 8.0.")
    return name, None


def _tuned(workload: Workload, architecture: str) -> tuple[str, str | None]:
    shape = TunedShape(
        architecture=architecture,
        dtype=workload.weight_dtype,
        hidden_size=workload.layer.hidden_size,
        expert_size=workload.local_expert_size,
        num_experts=workload.num_local_experts,
        num_tokens=workload.batch_size,
    )
    hit = look_up(load_tables(), shape)
    built = forms(architecture)
    # A near entry may be of a shape that its variant takes where this one's does not.
    if hit is not None and hit[0].variant in built:
        found, table = hit
        if built[found.variant].refusal(workload) is None:
            return found.variant, table.name
    return default_name(workload, architecture), None
