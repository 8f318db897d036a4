"""The Triton expert kernels compiled for any GPU, without one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from moeprof.kernel.triton_work import COMBINE_COLUMNS, OPTIONS, dot_type, has_e4m3

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.kernel.triton_tiles import Tile

_POINTERS: Final = {"bf16": "*bf16", "fp16": "*fp16", "fp32": "*fp32", "fp8_block": "*bf16"}
_USAGE: Final = re.compile(r"REG:(\d+) STACK:(\d+)")
_MINUTE_SECONDS = 60.0
# What a kernel is specialised on when sizes and addresses are multiples of 16.
_ALIGNED: Final = [["tt.divisibility", 16]]
_SIZES: Final = ("hidden_size", "expert_size")


@dataclass(frozen=True, slots=True)
class Compiled:
    """One kernel's machine code, and what a thread (`registers`, stack) and a block use of it.

    `stack_bytes` are registers that were spilled: these kernels have no arrays.
    """

    name: str
    cubin: bytes
    ptx: str
    registers: int
    stack_bytes: int
    shared_bytes: int


def compile_experts(
    weight_dtype: str,
    tile: Tile,
    capability: tuple[int, int],
    *,
    num_experts: int = 256,
    top_k: int = 8,
) -> tuple[Compiled, ...]:
    """Return the three kernels for a compute capability; `num_experts` is a power of two."""
    from moeprof.kernel import triton_experts  # noqa: PLC0415 - it imports triton

    e4m3 = "*fp8e4nv" if has_e4m3(capability) else "*u8"
    activation = _POINTERS[weight_dtype]
    types = {
        "tokens": activation,
        "hidden": activation,
        "outputs": activation,
        "weights": e4m3 if weight_dtype == "fp8_block" else activation,
        **dict.fromkeys(("scales", "row_weights", "row_outputs"), "*fp32"),
        **dict.fromkeys(("row_ends", "row_tokens", "token_rows"), "*i32"),
        **dict.fromkeys(("num_experts", *_SIZES), "i32"),
    }
    constants = {
        "BLOCK_ROWS": tile.num_rows,
        "BLOCK_COLUMNS": tile.num_columns,
        "BLOCK_DEPTH": tile.depth,
        "EXPERTS": num_experts,
        "TOP_K": top_k,
        "DOT_TYPE": dot_type(weight_dtype, capability),
        "INTERPRETED": False,
    }
    if weight_dtype != "fp8_block":
        constants["scales"] = None
    halves = {**constants, "BLOCK_COLUMNS": tile.num_columns // 2}
    combined = {**constants, "BLOCK_COLUMNS": COMBINE_COLUMNS}
    options = {**OPTIONS, "num_warps": tile.num_warps, "num_stages": tile.num_stages}
    return (
        _compiled(triton_experts.gate_up_swiglu, types, halves, capability, options),
        _compiled(triton_experts.down_weighted, types, constants, capability, options),
        _compiled(triton_experts.combine, types, combined, capability, OPTIONS),
    )


def _compiled(
    kernel: Any,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    capability: tuple[int, int],
    options: Mapping[str, Any],
) -> Compiled:
    import triton  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy, maybe not installed
    from triton.backends.compiler import (  # type: ignore[import-untyped]  # noqa: PLC0415
        GPUTarget,
    )
    from triton.compiler import ASTSource  # type: ignore[import-untyped]  # noqa: PLC0415

    names = list(enumerate(kernel.arg_names))
    source = ASTSource(
        kernel,
        signature={n: "constexpr" if n in constants else types[n] for _, n in names},
        constexprs={(i,): constants[n] for i, n in names if n in constants},
        attrs={
            (i,): _ALIGNED
            for i, n in names
            if n not in constants and (types[n].startswith("*") or n in _SIZES)
        },
    )
    target = GPUTarget("cuda", capability[0] * 10 + capability[1], 32)
    made = triton.compile(source, target=target, options=dict(options))
    registers, stack_bytes = _usage(made.asm["cubin"])
    return Compiled(
        name=kernel.__name__,
        cubin=made.asm["cubin"],
        ptx=made.asm["ptx"],
        registers=registers,
        stack_bytes=stack_bytes,
        shared_bytes=made.metadata.shared,
    )


def _usage(cubin: bytes) -> tuple[int, int]:
    """Return registers and stack of the one entry, as Triton's own cuobjdump reads them."""
    from triton import knobs  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="moeprof-cubin-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        ran = subprocess.run(  # noqa: S603 - a tool that comes with Triton
            [knobs.nvidia.cuobjdump.path, "-res-usage", str(path)],
            capture_output=True,
            text=True,
            check=True,
            timeout=_MINUTE_SECONDS,
        )
    found = _USAGE.search(ran.stdout)
    assert found is not None, "cuobjdump -res-usage names registers and stack of every entry"
    return int(found[1]), int(found[2])
