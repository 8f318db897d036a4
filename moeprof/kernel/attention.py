"""Latent attention of one decode step: its shape, its data, and what its output must be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from moeprof.errors import DeviceOutOfMemory, WorkloadError
from moeprof.kernel.bank import fill_with, random_values
from moeprof.kernel.buffers import TorchDevice
from moeprof.kernel.rotation import CACHE_MULTIPLE, MAX_BUFFER_SETS

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import L2State

# DeepSeek-V2 and -V3 scale by the size of a head before absorption: 128 and 64 rotary values
# (arXiv 2405.04434, section 2.1; 2412.19437, section 4.2).
SOFTMAX_SCALE: Final = 192**-0.5
# As MAX_RELATIVE_ERROR of kernel/reference.py: the softmax's weights and the outputs are rounded to
# bf16 once each, by at most 2^-9, about half of it in the mean.
MAX_RELATIVE_ERROR: Final = 3e-3
_BF16_BYTES: Final = 2
_USABLE_FRACTION: Final = 0.9
# Data repeat a random block of prime length, as the banks of weights do.
_BLOCK_VALUES: Final = 4_194_301


@dataclass(frozen=True, slots=True)
class AttentionWorkload:
    """One decode step of absorbed latent attention: a query per head and request.

    All heads share one cached vector per token, `latent_size + rotary_size` bf16 values, of which
    the first `latent_size` are the value too. `page_size` is tokens per page of the cache, whose
    pages then lie in random order; None: each request's context is contiguous.

    Raises:
        WorkloadError: a size is below 1.

    """

    num_heads: int
    latent_size: int
    rotary_size: int
    batch_size: int
    context_length: int
    page_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible shapes."""
        names = ("num_heads", "latent_size", "rotary_size", "batch_size", "context_length")
        for name in (*names, *(("page_size",) if self.page_size is not None else ())):
            if (found := getattr(self, name)) < 1:
                raise WorkloadError(
                    f"attention: {name} must be at least 1, got {found}",
                    hint="Correct the attention's sizes.",
                )

    @property
    def width(self) -> int:
        """Values of a query and of a cached token."""
        return self.latent_size + self.rotary_size

    @property
    def pages_per_request(self) -> int:
        """Pages of one request's context."""
        return -(-self.context_length // (self.page_size or self.context_length))

    @property
    def cache_bytes(self) -> int:
        """Bytes of the cached tokens that a step must read."""
        return self.batch_size * self.context_length * self.width * _BF16_BYTES

    @property
    def activation_bytes(self) -> int:
        """Bytes of queries read and outputs written."""
        values = self.batch_size * self.num_heads * (self.width + self.latent_size)
        return values * _BF16_BYTES

    @property
    def flops(self) -> int:
        """Operations of the two products, a multiplication and an addition each."""
        products = self.width + self.latent_size
        return 2 * self.batch_size * self.num_heads * self.context_length * products


@dataclass(frozen=True, slots=True)
class AttentionBuffers:
    """Queries, cache and outputs of all buffer sets.

    queries bf16 `[num_buffer_sets, batch_size, num_heads, width]`; cache bf16 `[num_buffer_sets,
    batch_size * pages_per_request, page_size, width]`; pages int32 `[batch_size,
    pages_per_request]`, or None where they lie in order; context_lengths int32 `[batch_size]`;
    outputs bf16 `[num_buffer_sets, batch_size, num_heads, latent_size]`, NaN at first.
    """

    workload: AttentionWorkload
    l2_state: L2State
    queries: Tensor
    cache: Tensor
    pages: Tensor | None
    context_lengths: Tensor
    outputs: Tensor

    @property
    def num_buffer_sets(self) -> int:
        """How many sets rotate."""
        return self.queries.shape[0]


def allocate_attention(
    workload: AttentionWorkload,
    device: Device,
    *,
    l2_state: L2State,
    seed: int,
    scratch_bytes: int = 0,
) -> AttentionBuffers:
    """Return random buffers on the device, cold where all sets exceed the cache fivefold.

    `scratch_bytes` is what the caller will allocate besides.

    Raises:
        DeviceOutOfMemory: they do not fit; nothing has been allocated.

    """
    assert isinstance(device, TorchDevice), "attention was bound to a device without torch"
    where = device.torch_device
    wanted = max(1, math.ceil(CACHE_MULTIPLE * device.l2_bytes / workload.cache_bytes))
    num_sets = min(wanted, MAX_BUFFER_SETS) if l2_state == "cold" else 1
    page_size = workload.page_size or workload.context_length
    num_pages = workload.batch_size * workload.pages_per_request
    cache_values = num_sets * num_pages * page_size * workload.width
    needed = cache_values * _BF16_BYTES + num_sets * workload.activation_bytes + scratch_bytes
    if (free := device.free_bytes()) * _USABLE_FRACTION < needed:
        raise DeviceOutOfMemory(
            f"cache, queries and scratch need {needed} bytes; {free} bytes are free on "
            f"{device.identity.name}, of which {_USABLE_FRACTION:.0%} may be used",
            hint="Measure a shorter context or a smaller batch, or free memory.",
        )
    heads = (num_sets, workload.batch_size, workload.num_heads)
    queries = torch.empty(*heads, workload.width, dtype=torch.bfloat16, device=where)
    cache = torch.empty(
        num_sets, num_pages, page_size, workload.width, dtype=torch.bfloat16, device=where
    )
    for index, tensor in enumerate((queries, cache)):
        count = min(tensor.numel(), _BLOCK_VALUES)
        block = random_values(count, dtype=tensor.dtype, where=where, seed=seed + index)
        fill_with(tensor.view(-1), block)
    shuffled = torch.randperm(num_pages, generator=torch.Generator().manual_seed(seed))
    return AttentionBuffers(
        workload=workload,
        l2_state="cold" if l2_state == "cold" and num_sets == wanted else "warm",
        queries=queries,
        cache=cache,
        pages=None
        if workload.page_size is None
        else shuffled.to(where, torch.int32).view(workload.batch_size, -1),
        context_lengths=torch.full(
            (workload.batch_size,), workload.context_length, dtype=torch.int32, device=where
        ),
        outputs=torch.full(
            (*heads, workload.latent_size), float("nan"), dtype=torch.bfloat16, device=where
        ),
    )


def reference_attention(
    buffers: AttentionBuffers, buffer_set: int, *, rounded_weights: bool = False
) -> Tensor:
    """Return what the output should be, float64 `[batch_size, num_heads, latent_size]`.

    `rounded_weights` rounds the softmax's weights to bf16 before they are summed and multiplied, as
    kernels do: which power of two they are divided by before does not matter.
    """
    workload = buffers.workload
    pages = buffers.cache[buffer_set]
    outputs = []
    for request, length in enumerate(buffers.context_lengths.tolist()):
        first = request * workload.pages_per_request
        its_own = (
            pages[first : first + workload.pages_per_request]
            if buffers.pages is None
            else pages[buffers.pages[request].long()]
        )
        tokens = its_own.flatten(0, 1)[:length].double()
        logits = buffers.queries[buffer_set, request].double() @ tokens.t()
        octaves = logits * (SOFTMAX_SCALE * math.log2(math.e))
        weights = torch.exp2(octaves - octaves.amax(dim=1, keepdim=True).ceil())
        if rounded_weights:
            # Through fp32, which is exact enough to leave the rounding to bf16 to decide.
            weights = weights.float().bfloat16().double()
        total = weights.sum(dim=1, keepdim=True)
        outputs.append(weights @ tokens[:, : workload.latent_size] / total)
    return torch.stack(outputs)
