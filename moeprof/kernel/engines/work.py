"""An engine's kernel bound to data: one call a launch, an output by token."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from moeprof.errors import KernelUnsupported, MoeprofError
from moeprof.kernel.buffers import allocate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from moeprof.device.protocol import Device
    from moeprof.kernel.buffers import Buffers
    from moeprof.kernel.protocol import Choice, Kernel, L2State
    from moeprof.workload.workload import Workload

# The format's reference quantises rows with a scale of full precision. A kernel that keeps rows
# in bf16 differs from it by 0.042, one whose scales are powers of two by 0.062, and by 0.076 where
# weights are requantised so as well (hidden size 2048, expert size 768, normal data).
MAX_RELATIVE_ERROR_OF_OTHER_FP8 = 0.1


class EngineWork:
    """Bound work whose launches are calls of an engine, which may allocate what it returns.

    `max_relative_error` is what the output may be off where the engine's arithmetic is coarser or
    finer than the format's reference; None: as the format's.
    """

    def __init__(
        self,
        buffers: Buffers,
        run: Callable[[int], Tensor],
        choice: Choice,
        *,
        max_relative_error: float | None = None,
    ) -> None:
        self.buffers = buffers
        self.num_buffer_sets = buffers.num_buffer_sets
        self.l2_state: str = buffers.l2_state
        self.choice = choice
        self.max_relative_error = max_relative_error
        self._run = run
        self._outputs = list(buffers.outputs.unbind(0))

    def launch(self, buffer_set: int) -> None:
        """Compute one buffer set's outputs."""
        self._outputs[buffer_set] = self._run(buffer_set)

    def output(self, buffer_set: int) -> Tensor:
        """Return `[num_tokens, hidden_size]`, as the last launch left it; NaN before the first."""
        return self._outputs[buffer_set]


def token_buffers(
    kernel: Kernel, workload: Workload, device: Device, *, l2_state: L2State, seed: int
) -> Buffers:
    """Return buffers with outputs by token, for a kernel that does not refuse the workload.

    Raises:
        KernelUnsupported: it refuses.
        DeviceOutOfMemory: they do not fit.

    """
    if (reason := kernel.refusal(workload, device.identity)) is not None:
        hint = "`moeprof kernels list` says which kernels run here."
        raise KernelUnsupported(f"{kernel.name}: {reason}", hint=hint)
    return allocate(workload, device, l2_state=l2_state, seed=seed, combined=True)


@contextmanager
def engine_errors(kernel: Kernel, device: Device) -> Iterator[None]:
    """Turn whatever an engine raises into KernelUnsupported, with its own words.

    Raises:
        KernelUnsupported: the engine failed.
        DeviceOutOfMemory: it needs more memory than is free.

    """
    try:
        with device.translating_errors(f"setting up {kernel.name}"):
            yield
    except MoeprofError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise KernelUnsupported(
            f"{kernel.name}: {lines[0] if lines else type(error).__name__}",
            hint="The engine's own words; `moeprof kernels list` has its version.",
        ) from error


def rehearse(
    kernel: Kernel, buffers: Buffers, run: Callable[[int], Tensor], device: Device
) -> None:
    """Call an engine once, so that it compiles and tunes before anything is timed.

    Outputs are NaN again afterwards. Raises what `engine_errors` does.
    """
    with engine_errors(kernel, device):
        run(0)
        if buffers.outputs.is_cuda:
            torch.cuda.synchronize(buffers.outputs.device)
    buffers.outputs[0].fill_(float("nan"))
