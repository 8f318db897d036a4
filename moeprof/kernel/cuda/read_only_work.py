"""A read of memory bound to data on a GPU: the ceiling of a session's bandwidths."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

from moeprof.errors import DeviceOutOfMemory, KernelUnsupported
from moeprof.kernel.bank import fill_with, random_values
from moeprof.kernel.buffers import TorchDevice
from moeprof.kernel.cuda.cache import build
from moeprof.kernel.cuda.launch import architecture_for, load
from moeprof.kernel.cuda.read_only import PIECE_BYTES, READ_ONLY, ReadOnlyArguments
from moeprof.kernel.rotation import CACHE_MULTIPLE, MAX_BUFFER_SETS

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity
    from moeprof.kernel.cuda.launch import Loaded
    from moeprof.kernel.protocol import L2State

# Sets begin at multiples of this many bytes.
_ALIGNMENT: Final = 4096
_USABLE_FRACTION: Final = 0.9
_BLOCK_VALUES: Final = 4_194_301


def read_only_refusal(identity: DeviceIdentity) -> str | None:
    """Return why the kernel cannot run on this device, or None if it can."""
    if identity.kind != "cuda":
        return f"the CUDA kernels run on cuda, not on {identity.kind}"
    capability = identity.versions.get("capability", "unknown")
    if architecture_for(capability) is None:
        return f"there is no machine code for compute capability {capability}"
    return None


def bind_read_only(num_bytes: int, device: Device, *, l2_state: L2State = "cold") -> ReadOnlyWork:
    """Return work that reads `num_bytes`, rounded up to 16, of random data.

    Raises:
        KernelUnsupported: `read_only_refusal` says why, or the kernel cannot be built or loaded.
        DeviceOutOfMemory: the data do not fit.

    """
    assert num_bytes > 0
    if (reason := read_only_refusal(device.identity)) is not None:
        raise KernelUnsupported(f"read-only: {reason}", hint="Compare with the device's datasheet.")
    assert isinstance(device, TorchDevice)
    where = device.torch_device
    architecture = architecture_for(device.identity.versions["capability"])
    assert architecture is not None  # read_only_refusal has seen to it
    loaded = load(build(READ_ONLY, architecture), where.index or 0)
    wanted = max(1, math.ceil(CACHE_MULTIPLE * device.l2_bytes / num_bytes))
    num_sets = min(wanted, MAX_BUFFER_SETS) if l2_state == "cold" else 1
    set_bytes = -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
    if (free := device.free_bytes()) * _USABLE_FRACTION < num_sets * set_bytes:
        raise DeviceOutOfMemory(
            f"reading {num_bytes} bytes cold needs {num_sets * set_bytes} bytes; {free} bytes are "
            f"free on {device.identity.name}, of which {_USABLE_FRACTION:.0%} may be used",
            hint="Read fewer bytes, or free memory.",
        )
    words = torch.empty(num_sets, set_bytes // 4, dtype=torch.int32, device=where)
    # Random bits: what is all alike may be read faster, and costs less power.
    values = min(words.numel(), _BLOCK_VALUES)
    block = random_values(values, dtype=torch.float32, where=where, seed=0).view(torch.int32)
    fill_with(words.view(-1), block)
    cold = l2_state == "cold" and num_sets == wanted
    num_read = -(-num_bytes // PIECE_BYTES) * PIECE_BYTES
    return ReadOnlyWork(words, num_read, loaded, l2_state="cold" if cold else "warm")


class ReadOnlyWork:
    """A bound read; `read_bytes` is what a launch reads."""

    def __init__(
        self, words: Tensor, read_bytes: int, loaded: Loaded, *, l2_state: L2State
    ) -> None:
        grid = loaded.num_multiprocessors * loaded.max_blocks_per_multiprocessor
        self.read_bytes = read_bytes
        self.num_buffer_sets = words.shape[0]
        self.l2_state: str = l2_state
        self._words = words
        self._outputs = torch.zeros(words.shape[0], grid, dtype=torch.int32, device=words.device)
        self._launches = [
            loaded.prepare(
                grid,
                ReadOnlyArguments(
                    from_=words[buffer_set].data_ptr(),
                    outputs=self._outputs[buffer_set].data_ptr(),
                    num_bytes=read_bytes,
                ),
            )
            for buffer_set in range(words.shape[0])
        ]

    def launch(self, buffer_set: int) -> None:
        """Read one buffer set, without waiting for the device."""
        stream = torch.cuda.current_stream(self._words.device).cuda_stream
        self._launches[buffer_set](stream)

    def output(self, buffer_set: int) -> Tensor:
        """Return int32 `[num_blocks]`: what each block folded its words to."""
        return self._outputs[buffer_set]

    def is_right(self, buffer_set: int) -> bool:
        """Return whether the last launch of a set has read every word of it once."""
        read = self._words[buffer_set, : self.read_bytes // 4]
        return _folded(read) == _folded(self._outputs[buffer_set])


def _folded(words: Tensor) -> int:
    """Return the exclusive or of all words; torch has no reduction of its own for it."""
    while len(words) > 1:
        half = len(words) // 2
        odd = words[2 * half :]
        words = torch.cat((words[:half] ^ words[half : 2 * half], odd))
    return int(words[0])
