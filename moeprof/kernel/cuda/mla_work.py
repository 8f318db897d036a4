"""The pair of latent attention kernels bound to data on a GPU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

from moeprof.errors import KernelUnsupported
from moeprof.kernel.attention import SOFTMAX_SCALE, AttentionBuffers, allocate_attention
from moeprof.kernel.buffers import TorchDevice
from moeprof.kernel.cuda import mla
from moeprof.kernel.cuda.cache import build
from moeprof.kernel.cuda.launch import architecture_for, load
from moeprof.kernel.protocol import Choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity
    from moeprof.kernel.attention import AttentionWorkload
    from moeprof.kernel.cuda.launch import Loaded
    from moeprof.kernel.protocol import L2State

_FLOAT_BYTES: Final = 4


def mla_refusal(workload: AttentionWorkload, identity: DeviceIdentity) -> str | None:
    """Return why this workload cannot run on this device, or None if it can."""
    if identity.kind != "cuda":
        return f"the CUDA kernels run on cuda, not on {identity.kind}"
    capability = identity.versions.get("capability", "unknown")
    if architecture_for(capability) is None:
        return f"there is no machine code for compute capability {capability}"
    wanted = f"{mla.LATENT_SIZE} and {mla.ROTARY_SIZE}"
    if (found := f"{workload.latent_size} and {workload.rotary_size}") != wanted:
        return f"latent and rotary sizes must be {wanted}, got {found}"
    return None


def bind_mla(
    workload: AttentionWorkload, device: Device, *, l2_state: L2State, seed: int
) -> MlaWork:
    """Return the workload with random data on a GPU.

    Raises:
        KernelUnsupported: `mla_refusal` says why, or the kernels cannot be built or loaded.
        DeviceOutOfMemory: the data do not fit.

    """
    if (reason := mla_refusal(workload, device.identity)) is not None:
        raise KernelUnsupported(f"mla-decode: {reason}", hint="Measure it on a newer GPU.")
    assert isinstance(device, TorchDevice)
    architecture = architecture_for(device.identity.versions["capability"])
    assert architecture is not None  # mla_refusal has seen to it
    index = device.torch_device.index or 0
    chosen = mla.choose(architecture, workload.num_heads)
    decode = load(build(mla.decode_variant(chosen), architecture), index)
    combine = load(build(mla.COMBINE, architecture), index)
    num_splits = mla.num_splits(
        chosen,
        num_requests=workload.batch_size,
        num_heads=workload.num_heads,
        context_length=workload.context_length,
        num_multiprocessors=decode.num_multiprocessors,
    )
    rows = workload.batch_size * workload.num_heads * num_splits
    buffers = allocate_attention(
        workload,
        device,
        l2_state=l2_state,
        seed=seed,
        scratch_bytes=rows * (workload.latent_size + 2) * _FLOAT_BYTES,
    )
    return MlaWork(buffers, chosen, num_splits, decode, combine)


class MlaWork:
    """The bound pair; partial outputs are scratch that all buffer sets share."""

    def __init__(
        self,
        buffers: AttentionBuffers,
        chosen: mla.MlaSettings,
        num_splits: int,
        decode: Loaded,
        combine: Loaded,
    ) -> None:
        workload = buffers.workload
        sizes = (workload.batch_size, workload.num_heads, num_splits)
        where = buffers.queries.device
        self.buffers = buffers
        self.num_buffer_sets = buffers.num_buffer_sets
        self.l2_state: str = buffers.l2_state
        self.choice = Choice(kernel=f"{chosen.name}-x{num_splits}")
        self._device = where
        self._scratch = (
            torch.empty(mla.num_partials(*sizes), dtype=torch.float32, device=where),
            torch.empty(mla.num_statistics(*sizes), dtype=torch.float32, device=where),
        )
        decode_grid = mla.decode_grid(chosen, *sizes)
        combine_grid = mla.combine_grid(*sizes[:2])
        self._launches: list[tuple[Callable[[int], None], Callable[[int], None]]] = []
        for buffer_set in range(self.num_buffer_sets):
            first, second = self._arguments(buffer_set, num_splits)
            self._launches.append(
                (decode.prepare(decode_grid, first), combine.prepare(combine_grid, second))
            )

    def launch(self, buffer_set: int) -> None:
        """Compute one buffer set's outputs, without waiting for the device."""
        stream = torch.cuda.current_stream(self._device).cuda_stream
        for launch in self._launches[buffer_set]:
            launch(stream)

    def output(self, buffer_set: int) -> Tensor:
        """Return `[batch_size, num_heads, latent_size]`; NaN before the first launch."""
        return self.buffers.outputs[buffer_set]

    def _arguments(
        self, buffer_set: int, num_splits: int
    ) -> tuple[mla.MlaArguments, mla.MlaCombineArguments]:
        buffers, workload = self.buffers, self.buffers.workload
        partials, statistics = (tensor.data_ptr() for tensor in self._scratch)
        return (
            mla.MlaArguments(
                queries=buffers.queries[buffer_set].data_ptr(),
                cache=buffers.cache[buffer_set].data_ptr(),
                pages=None if buffers.pages is None else buffers.pages.data_ptr(),
                context_lengths=buffers.context_lengths.data_ptr(),
                partials=partials,
                statistics=statistics,
                num_heads=workload.num_heads,
                num_splits=num_splits,
                page_size=buffers.cache.shape[2],
                pages_per_request=workload.pages_per_request,
                scale_log2=SOFTMAX_SCALE * math.log2(math.e),
            ),
            mla.MlaCombineArguments(
                partials=partials,
                statistics=statistics,
                outputs=buffers.outputs[buffer_set].data_ptr(),
                num_heads=workload.num_heads,
                num_splits=num_splits,
            ),
        )
