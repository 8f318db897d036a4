"""The Triton expert kernels bound to a workload."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from moeprof.errors import KernelUnsupported
from moeprof.kernel.buffers import allocate
from moeprof.kernel.protocol import Choice
from moeprof.kernel.triton_tiles import Tile, default_tile, fitting, max_row_blocks, power_of_two

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.device.protocol import Device, DeviceIdentity, Work
    from moeprof.kernel.buffers import Buffers
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

_DTYPES: Final = ("bf16", "fp16", "fp32", "fp8_block")
# Rows arrive in bf16 and are quantised by the kernels; recipes name what is multiplied.
_FP8_ACTIVATIONS: Final = ("bf16", "fp8", "fp8_block")
_MIN_CAPABILITY: Final = (8, 0)
_E4M3_CAPABILITY: Final = (8, 9)
# The interpreter of Triton before 3.7 counts on what numpy 2.4 took away (triton issue 9171).
_FIRST_FOR_NUMPY: Final = (3, 7)
_NUMPY_CHANGE: Final = (2, 4)
COMBINE_COLUMNS: Final = 1024
# Contracting a product and a sum is what Triton did until 3.9, which warns that 3.10 will not.
OPTIONS: Final = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": True}


class TritonExperts:
    """Three Triton kernels: gate, up and SwiGLU; down, weighted; each token's rows added.

    On CUDA from compute capability 8.0; on the CPU only interpreted, which is for tests. `tile`
    takes the place of vLLM's fallback for the workload.
    """

    name = "triton"

    def __init__(self, tile: Tile | None = None) -> None:
        self._tile = tile

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why this workload cannot run on this device, or None if it can."""
        if workload.num_rows == 0:
            return "no rows fall on this rank"
        weights, activations = workload.weight_dtype, workload.activation_dtype
        if weights not in _DTYPES:
            return f"its weights are {', '.join(_DTYPES)}, not {weights}"
        if activations not in (_FP8_ACTIVATIONS if weights == "fp8_block" else (weights,)):
            return f"it multiplies no {activations} activations with {weights} weights"
        if find_spec("triton") is None:
            return "triton is not installed: pip install 'moeprof[triton]'"
        return _interpreter_refusal(identity) if interpreted() else _cuda_refusal(identity)

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return the workload with random data. Raises KernelUnsupported, DeviceOutOfMemory."""
        if (reason := self.refusal(workload, device.identity)) is not None:
            raise KernelUnsupported(f"{self.name}: {reason}", hint="Choose another kernel.")
        buffers = allocate(workload, device, l2_state=l2_state, seed=seed, combined=True)
        dtype, num_tokens = workload.weight_dtype, buffers.tokens.shape[1]
        if device.identity.kind != "cuda":
            return TritonWork(buffers, self._tile or default_tile(dtype, num_tokens))
        capability = _capability(device.identity)
        tile = self._tile or default_tile(dtype, num_tokens, capability)
        work = TritonWork(buffers, fitting(tile, dtype, capability), capability=capability)
        with torch.cuda.device(buffers.tokens.device):
            work.compile()
        return work

    def versions(self) -> dict[str, str]:
        """Return torch's and Triton's versions."""
        found = triton_version()
        return {"torch": torch.__version__} | ({} if found is None else {"triton": found})


@dataclass(frozen=True, slots=True)
class _Launch:
    """One kernel with its grid, arguments and compiler options."""

    kernel: Any
    grid: tuple[int, int]
    arguments: tuple[Any, ...]
    options: dict[str, int]

    def __call__(self) -> None:
        self.kernel[self.grid](*self.arguments, **self.options)


class TritonWork:
    """The bound kernels; three launches compute one buffer set.

    `capability` is that of the GPU they are compiled for; None: they are interpreted.
    """

    def __init__(
        self, buffers: Buffers, tile: Tile, *, capability: tuple[int, int] | None = None
    ) -> None:
        self.buffers = buffers
        self.num_buffer_sets = buffers.num_buffer_sets
        self.l2_state: str = buffers.l2_state
        self.choice = Choice(kernel=str(tile), version=triton_version())
        num_rows, hidden_size = buffers.rows.shape[1:]
        self.row_outputs = torch.empty(
            num_rows, hidden_size, dtype=torch.float32, device=buffers.tokens.device
        )
        self._launches = [
            _launches(buffers, buffer_set, self.row_outputs, tile, capability)
            for buffer_set in range(self.num_buffer_sets)
        ]

    def compile(self) -> None:
        """Launch every set once, since a CUDA graph cannot hold a compilation; outputs stay NaN.

        Sets may differ in how their addresses are aligned, by which Triton compiles.
        """
        for buffer_set in range(self.num_buffer_sets):
            self.launch(buffer_set)
        self.buffers.outputs.fill_(float("nan"))

    def launch(self, buffer_set: int) -> None:
        """Compute one buffer set's outputs, without waiting for the device."""
        for launch in self._launches[buffer_set]:
            launch()

    def output(self, buffer_set: int) -> Tensor:
        """Return `[num_tokens, hidden_size]`, as the last launch left it; NaN before the first."""
        return self.buffers.outputs[buffer_set]


def interpreted() -> bool:
    """Return whether Triton interprets kernels on the CPU instead of compiling them."""
    from triton import knobs  # type: ignore[import-untyped]  # noqa: PLC0415 - maybe not installed

    return bool(knobs.runtime.interpret)


def triton_version() -> str | None:
    """Return Triton's version, or None where it is not installed."""
    try:
        return version("triton")
    except PackageNotFoundError:
        return None


def has_e4m3(capability: tuple[int, int] | None) -> bool:
    """Return whether Triton multiplies e4m3 on this compute capability, or interpreted (None)."""
    return capability is not None and capability >= _E4M3_CAPABILITY


def dot_type(dtype: str, capability: tuple[int, int] | None) -> Any:
    """Return what Triton's matrix products are given for weights of a dtype.

    e4m3 has products from compute capability 8.9; before, its values are held in fp16, exactly. In
    the interpreter (None) everything is fp32.
    """
    import triton.language as tl  # type: ignore[import-untyped]  # noqa: PLC0415

    if capability is None:
        return tl.float32
    if dtype == "fp8_block":
        return tl.float8e4nv if has_e4m3(capability) else tl.float16
    return {"bf16": tl.bfloat16, "fp16": tl.float16, "fp32": tl.float32}[dtype]


def _launches(
    buffers: Buffers,
    buffer_set: int,
    row_outputs: Tensor,
    tile: Tile,
    capability: tuple[int, int] | None,
) -> tuple[_Launch, ...]:
    from moeprof.kernel import triton_experts  # noqa: PLC0415 - it imports triton

    workload = buffers.workload
    num_experts, top_k = workload.num_local_experts, workload.layer.top_k
    sizes = (num_experts, workload.layer.hidden_size, workload.local_expert_size)
    _, hidden_size, expert_size = sizes
    of_dot = dot_type(workload.weight_dtype, capability)
    gate_up, down = buffers.gate_up(buffer_set), buffers.down(buffer_set)
    if workload.weight_dtype == "fp8_block" and not has_e4m3(capability):
        gate_up, down = gate_up.view(torch.uint8), down.view(torch.uint8)
    row_blocks = max_row_blocks(workload.num_rows, num_experts, tile.num_rows)
    half = tile.num_columns // 2
    experts = power_of_two(num_experts)
    options = {**OPTIONS, "num_warps": tile.num_warps, "num_stages": tile.num_stages}
    interpreting = capability is None
    outputs = buffers.outputs[buffer_set]
    first = _Launch(
        triton_experts.gate_up_swiglu,
        (row_blocks, -(-expert_size // half)),
        (
            *(buffers.tokens[buffer_set], gate_up, buffers.gate_up_scales(buffer_set)),
            *(buffers.row_ends, buffers.row_tokens, buffers.hidden, *sizes),
            *(tile.num_rows, half, tile.depth, experts, of_dot, interpreting),
        ),
        options,
    )
    second = _Launch(
        triton_experts.down_weighted,
        (row_blocks, -(-hidden_size // tile.num_columns)),
        (
            *(buffers.hidden, down, buffers.down_scales(buffer_set)),
            *(buffers.row_ends, buffers.row_weights, row_outputs, *sizes),
            *(tile.num_rows, tile.num_columns, tile.depth, experts, of_dot),
        ),
        options,
    )
    third = _Launch(
        triton_experts.combine,
        (outputs.shape[0], -(-hidden_size // COMBINE_COLUMNS)),
        (
            *(row_outputs, buffers.token_rows, outputs),
            *(hidden_size, top_k, COMBINE_COLUMNS, interpreting),
        ),
        OPTIONS,
    )
    return (first, second, third)


def _interpreter_refusal(identity: DeviceIdentity) -> str | None:
    if identity.kind != "cpu":
        return f"TRITON_INTERPRET is set, and the interpreter is for the CPU, not {identity.kind}"
    found = str(triton_version())
    if _numbers(found) < _FIRST_FOR_NUMPY and _numbers(np.__version__) >= _NUMPY_CHANGE:
        return (
            f"the interpreter of triton {found} fails with numpy {np.__version__}; 3.7's does not"
        )
    return None


def _cuda_refusal(identity: DeviceIdentity) -> str | None:
    if identity.kind != "cuda":
        return f"Triton compiles for cuda, not for {identity.kind}; TRITON_INTERPRET=1 is for tests"
    if _capability(identity) < _MIN_CAPABILITY:
        found = identity.versions.get("capability", "unknown")
        return f"it needs compute capability 8.0, this is {found}"
    return None


def _capability(identity: DeviceIdentity) -> tuple[int, int]:
    major, minor = _numbers(identity.versions.get("capability", "")) or (0, 0)
    return major, minor


def _numbers(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; none where it has none."""
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
