"""The read-only kernel: its one variant, and what it takes."""

from __future__ import annotations

import ctypes
from typing import Final

from moeprof.kernel.cuda.variants import Variant

_NUM_THREADS: Final = 256
_NUM_WARPS: Final = _NUM_THREADS // 32
PIECE_BYTES: Final = 16

READ_ONLY: Final = Variant(
    name="read-only",
    source="read_only.cu",
    entry="read_only",
    defines=(),
    num_threads=_NUM_THREADS,
    shared_bytes=_NUM_WARPS * 4,
    expects=("LDG.E.NA.128.CONSTANT",),
)


class ReadOnlyArguments(ctypes.Structure):
    """`ReadOnlyArguments` of `kernels/read_only.cu`; pointers are device addresses.

    `from_` is 16-byte aligned, `num_bytes` a multiple of 16. Written: outputs u32 `[num_blocks]`,
    the exclusive or of the words that each block read.
    """

    _fields_ = (
        ("from_", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("num_bytes", ctypes.c_uint64),
    )


def variants(architecture: str) -> tuple[Variant, ...]:  # noqa: ARG001 - the same for all
    """Return the compiled forms for one architecture: one."""
    return (READ_ONLY,)
