"""The CUDA expert kernel's own text on the CPU: to check its arithmetic, not to be fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moeprof.errors import KernelUnsupported
from moeprof.kernel.buffers import allocate
from moeprof.kernel.cuda import host, stream
from moeprof.kernel.cuda.experts import expert_arguments, make_scratch
from moeprof.kernel.protocol import Choice

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.buffers import Buffers
    from moeprof.kernel.cuda.experts import Scratch
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

_NUM_BLOCKS: Final = 3
# Every GPU thread is emulated: about a second for 10^9 where all rows of a tile are filled.
_MAX_FLOPS: Final = 2_000_000_000


class HostExperts:
    """`kernels/experts_stream.cu` compiled for the CPU by the machine's C++ compiler."""

    name = "stream-host"

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        if identity.kind != "cpu":
            return f"it emulates a GPU on the CPU; this is {identity.kind}"
        if workload.num_rows == 0:
            return "no rows fall on this rank"
        if (reason := stream.refusal(workload)) is not None:
            return reason
        if workload.flops > _MAX_FLOPS:
            return f"emulating {workload.flops} FLOPs takes too long; {_MAX_FLOPS} at most"
        return host.refusal()

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data. Raises KernelUnsupported, DeviceOutOfMemory."""
        if (reason := self.refusal(workload, device.identity)) is not None:
            raise KernelUnsupported(f"{self.name}: {reason}", hint="Choose another kernel.")
        buffers = allocate(workload, device, l2_state=l2_state, seed=seed, combined=True)
        rows = stream.default_rows(workload.max_rows_per_expert)
        settings = stream.StreamSettings(workload.weight_dtype, rows, blocks=1)
        return HostWork(buffers, settings, seed=seed)

    def versions(self) -> dict[str, str]:
        """Return nothing: how fast an emulation is means nothing."""
        return {}


class HostWork:
    """The bound emulation; `hidden` and `row_outputs` can be looked at after a launch."""

    def __init__(
        self,
        buffers: Buffers,
        settings: stream.StreamSettings,
        *,
        seed: int,
        num_blocks: int = _NUM_BLOCKS,
    ) -> None:
        self.buffers = buffers
        self.num_buffer_sets = buffers.num_buffer_sets
        self.l2_state: str = buffers.l2_state
        self.choice = Choice(kernel=settings.name)
        # Few stages, so that small layers go through the ring many times.
        self._variant = stream.variant(settings, "sm_86")
        self._kernel = host.host_kernel(
            self._variant.source,
            self._variant.entry,
            defines=self._variant.defines,
            headers=self._variant.headers,
        )
        self._seed = seed
        self._num_blocks = num_blocks
        self.scratch = make_scratch(
            buffers,
            num_partials=stream.num_partials(settings.rows, num_blocks),
            num_counters=stream.num_counters(
                buffers.workload, buffers.tokens.shape[1], settings.rows
            ),
        )

        read, written = _tensors(buffers, self.scratch)
        self._ranges = [_range(each, writable=False) for each in read]
        self._ranges += [_range(each, writable=True) for each in written]

    def launch(self, buffer_set: int) -> None:
        """Compute one buffer set's outputs. Raises RuntimeError where the kernel goes astray."""
        self._kernel.launch(
            self._num_blocks,
            self._variant.num_threads,
            expert_arguments(self.buffers, self.scratch, buffer_set),
            shared_bytes=self._variant.shared_bytes,
            seed=self._seed,
            ranges=self._ranges,
        )

    def output(self, buffer_set: int) -> Tensor:
        """Return `[num_tokens, hidden_size]`, as the last launch left it; NaN before the first."""
        return self.buffers.outputs[buffer_set]


def _tensors(buffers: Buffers, scratch: Scratch) -> tuple[list[Tensor], list[Tensor]]:
    """Return what a launch may read, and what it may write as well."""
    bank = buffers.bank
    scales = [each for each in (bank.gate_up_scales, bank.down_scales) if each is not None]
    rows = [buffers.row_ends, buffers.row_tokens, buffers.row_weights, buffers.token_rows]
    read = [bank.gate_up, bank.down, buffers.tokens, *scales, *rows]
    return read, [
        buffers.hidden, buffers.outputs, scratch.row_outputs, scratch.partials, scratch.counters
    ]  # fmt: skip


def _range(tensor: Tensor, *, writable: bool) -> host.Range:
    return tensor.data_ptr(), tensor.numel() * tensor.element_size(), writable
