"""Tensor maps: how Hopper's copy engine finds tiles of expert weights."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass
from typing import Any, Final

from moeprof.errors import KernelUnsupported

_ROW_BYTES: Final = 128  # of a tile's row: one period of the 128-byte swizzle
_TILE_ROWS: Final = 128  # kTile of kernels/experts_wgmma.cu
_GROUP_ROWS: Final = 8  # gate and up alternate in groups of what one thread's sums are apart
_ALIGNMENT_BYTES: Final = 16
_MAX_RANK: Final = 5
_SIZE_BYTES: Final = 128
_MAP_ALIGNMENT_BYTES: Final = 64
# Values of the enumerations in cuda.h (CUDA Driver API, cuTensorMapEncodeTiled): by the bytes of an
# element, CU_TENSOR_MAP_DATA_TYPE_UINT8 and _BFLOAT16.
_DATA_TYPES: Final = {1: 0, 2: 9}
_NO_INTERLEAVE: Final = 0
_SWIZZLE_128_BYTES: Final = 3
_L2_PROMOTION_256_BYTES: Final = 3
_FILL_WITH_ZEROS: Final = 0


@dataclass(frozen=True, slots=True)
class BoxedTensor:
    """A tensor in device memory, and the box of it that one load brings; fastest dimension first.

    `strides_bytes` are those of all dimensions but the fastest. What lies outside of `sizes` is
    zeros. Rows of the box are 128 bytes, and lie in shared memory in the 128-byte swizzle.
    """

    address: int
    element_bytes: int
    sizes: tuple[int, ...]
    strides_bytes: tuple[int, ...]
    box: tuple[int, ...]


def gate_up_tensor(
    address: int, *, num_experts: int, expert_size: int, hidden_size: int, element_bytes: int
) -> BoxedTensor:
    """Return `[num_experts, 2 * expert_size, hidden_size]` so that gate and up rows alternate.

    Its dimensions are hidden, 8 rows, gate or up, expert_size / 8, expert: a box is 64 features,
    8 gate rows and the 8 up rows of the same features in turn. Strides do not rise from dimension
    to dimension, as the CUDA Driver API draws them; what it asks of them is multiples of 16 below
    2**40.
    """
    row_bytes = hidden_size * element_bytes
    half_bytes = expert_size * row_bytes
    return BoxedTensor(
        address=address,
        element_bytes=element_bytes,
        sizes=(hidden_size, _GROUP_ROWS, 2, expert_size // _GROUP_ROWS, num_experts),
        strides_bytes=(row_bytes, half_bytes, _GROUP_ROWS * row_bytes, 2 * half_bytes),
        box=(_ROW_BYTES // element_bytes, _GROUP_ROWS, 2, _TILE_ROWS // (2 * _GROUP_ROWS), 1),
    )


def down_tensor(
    address: int, *, num_experts: int, expert_size: int, hidden_size: int, element_bytes: int
) -> BoxedTensor:
    """Return `[num_experts, hidden_size, expert_size]` in boxes of 128 rows of one expert."""
    row_bytes = expert_size * element_bytes
    return BoxedTensor(
        address=address,
        element_bytes=element_bytes,
        sizes=(expert_size, hidden_size, num_experts),
        strides_bytes=(row_bytes, hidden_size * row_bytes),
        box=(_ROW_BYTES // element_bytes, _TILE_ROWS, 1),
    )


def encode(tensor: BoxedTensor) -> bytes:
    """Return the driver's 128-byte CUtensorMap.

    Raises:
        KernelUnsupported: the driver refuses it, or there is none.

    """
    rank = len(tensor.sizes)
    # cuda-bindings would have it written to wherever a Python object happens to lie.
    room = (ctypes.c_uint8 * (_SIZE_BYTES + _MAP_ALIGNMENT_BYTES))()
    at = -ctypes.addressof(room) % _MAP_ALIGNMENT_BYTES
    result = _driver().cuTensorMapEncodeTiled(
        ctypes.c_void_p(ctypes.addressof(room) + at),
        ctypes.c_int(_DATA_TYPES[tensor.element_bytes]),
        ctypes.c_uint32(rank),
        ctypes.c_void_p(tensor.address),
        (ctypes.c_uint64 * rank)(*tensor.sizes),
        (ctypes.c_uint64 * (rank - 1))(*tensor.strides_bytes),
        (ctypes.c_uint32 * rank)(*tensor.box),
        (ctypes.c_uint32 * rank)(*[1] * rank),
        ctypes.c_int(_NO_INTERLEAVE),
        ctypes.c_int(_SWIZZLE_128_BYTES),
        ctypes.c_int(_L2_PROMOTION_256_BYTES),
        ctypes.c_int(_FILL_WITH_ZEROS),
    )
    if result:
        raise KernelUnsupported(
            f"the driver refuses a tensor map of sizes {tensor.sizes}, strides "
            f"{tensor.strides_bytes} and box {tensor.box}: CUDA error {result}",
            hint="Choose another kernel, as stream, which needs none.",
        )
    return bytes(room[at : at + _SIZE_BYTES])


def encode_for_host(tensor: BoxedTensor) -> bytes:
    """Return what `kernels/host_hopper.hpp` takes in the place of a CUtensorMap."""
    assert tensor.address % _ALIGNMENT_BYTES == 0, "the driver refuses unaligned tensors"
    assert not any(stride % _ALIGNMENT_BYTES for stride in tensor.strides_bytes), "and strides"
    rank = len(tensor.sizes)
    absent = (0,) * (_MAX_RANK - rank)
    return struct.pack(
        f"=QII{_MAX_RANK - 1}Q{_MAX_RANK}I{_MAX_RANK}I",
        tensor.address,
        rank,
        tensor.element_bytes,
        *tensor.strides_bytes,
        *absent,
        *tensor.sizes,
        *absent,
        *tensor.box,
        *absent,
    ).ljust(_SIZE_BYTES, b"\0")


def _driver() -> Any:
    try:
        library = ctypes.CDLL("libcuda.so.1")
        assert library.cuTensorMapEncodeTiled, "looked up, so that an old driver is noticed here"
    except (OSError, AttributeError) as error:
        raise KernelUnsupported(
            f"tensor maps are made by the CUDA driver, 12.0 or newer: {error}",
            hint="Install a newer NVIDIA driver, or choose another kernel, as stream.",
        ) from error
    return library
