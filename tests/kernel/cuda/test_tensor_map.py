from __future__ import annotations

import ctypes
import struct
from itertools import product
from typing import Any

import pytest

from moeprof.errors import KernelUnsupported
from moeprof.kernel.cuda import tensor_map
from moeprof.kernel.cuda.tensor_map import (
    BoxedTensor,
    down_tensor,
    encode,
    encode_for_host,
    gate_up_tensor,
)

SIZES = {"num_experts": 3, "expert_size": 192, "hidden_size": 320, "element_bytes": 2}
ADDRESS = 1 << 20


def rows_of(tensor: BoxedTensor, at: tuple[int, ...]) -> list[int | None]:
    """Where the box's rows begin, as (byte offset) / (bytes of a row of the matrix), in order."""
    rows: list[int | None] = []
    for inner in product(*(range(size) for size in reversed(tensor.box[1:]))):
        place = [x + step for x, step in zip(at[1:], reversed(inner), strict=True)]
        inside = all(x < size for x, size in zip(place, tensor.sizes[1:], strict=True))
        offset = sum(x * stride for x, stride in zip(place, tensor.strides_bytes, strict=True))
        rows.append(offset // tensor.strides_bytes[0] if inside else None)
    return rows


class Driver:
    """Takes a tensor map's parts as the driver would; keeps what it was told."""

    def __init__(self, result: int = 0) -> None:
        self.result = result
        self.told: list[Any] = []

    def cuTensorMapEncodeTiled(self, to: ctypes.c_void_p, *told: Any) -> int:  # noqa: N802 - its name
        assert to.value is not None
        assert to.value % 64 == 0
        self.told = [list(one) if isinstance(one, ctypes.Array) else one.value for one in told]
        ctypes.memmove(to.value, bytes(range(128)), 128)
        return self.result


def use(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: driver)
    return driver


def test_a_box_alternates_eight_gate_rows_with_the_up_rows_of_the_same_features() -> None:
    tensor = gate_up_tensor(ADDRESS, **SIZES)
    expert, tile = 2, 1

    rows = rows_of(tensor, (64, 0, 0, tile * 8, expert))

    first_gate = expert * 2 * 192 + tile * 64
    expected = [
        first_gate + half * 192 + group * 8 + row
        for group in range(8)
        for half in range(2)
        for row in range(8)
    ]
    assert rows == expected


def test_a_tile_of_down_rows_ends_with_its_expert() -> None:
    tensor = down_tensor(ADDRESS, **SIZES)

    rows = rows_of(tensor, (0, 256, 1))

    assert rows == [*range(320 + 256, 320 + 320), *[None] * 64]


@pytest.mark.parametrize("element_bytes", [1, 2])
def test_a_box_is_a_tile_of_the_kernel(element_bytes: int) -> None:
    sizes = SIZES | {"element_bytes": element_bytes}
    for tensor in (gate_up_tensor(ADDRESS, **sizes), down_tensor(ADDRESS, **sizes)):
        columns, *rows = tensor.box
        num_rows = 1
        for size in rows:
            num_rows *= size
        assert columns * element_bytes == 128
        assert num_rows == 128


def test_the_driver_is_told_everything_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = use(Driver(), monkeypatch)

    made = encode(down_tensor(ADDRESS, **SIZES))

    assert made == bytes(range(128))
    assert driver.told == [
        *(9, 3, ADDRESS),
        *([192, 320, 3], [192 * 2, 320 * 192 * 2], [64, 128, 1], [1, 1, 1]),
        *(0, 3, 3, 0),
    ]


def test_e4m3_goes_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = use(Driver(), monkeypatch)

    encode(gate_up_tensor(ADDRESS, **SIZES | {"element_bytes": 1}))

    assert driver.told[:2] == [0, 5]
    assert driver.told[4] == [320, 192 * 320, 8 * 320, 2 * 192 * 320]


def test_what_the_driver_refuses_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    use(Driver(result=1), monkeypatch)

    with pytest.raises(KernelUnsupported, match=r"sizes \(192, 320, 3\).*CUDA error 1"):
        encode(down_tensor(ADDRESS, **SIZES))


@pytest.mark.parametrize("error", [OSError("no such library"), AttributeError("no such symbol")])
def test_without_a_driver_of_cuda_12_the_kernel_is_unsupported(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_name: str) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", load)

    with pytest.raises(KernelUnsupported, match="no such"):
        encode(down_tensor(ADDRESS, **SIZES))


def test_the_numbers_are_those_of_cuda_h() -> None:
    cuda = pytest.importorskip("cuda.bindings.driver")

    assert tensor_map._DATA_TYPES == {
        1: cuda.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_UINT8,
        2: cuda.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
    }
    assert (
        tensor_map._NO_INTERLEAVE,
        tensor_map._SWIZZLE_128_BYTES,
        tensor_map._L2_PROMOTION_256_BYTES,
        tensor_map._FILL_WITH_ZEROS,
    ) == (
        cuda.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        cuda.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
        cuda.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        cuda.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )


def test_the_host_form_has_the_shims_layout() -> None:
    made = encode_for_host(down_tensor(ADDRESS, **SIZES))

    assert len(made) == 128
    assert struct.unpack_from("=QII", made) == (ADDRESS, 3, 2)
    assert struct.unpack_from("=4Q", made, 16) == (192 * 2, 320 * 192 * 2, 0, 0)
    assert struct.unpack_from("=5I5I", made, 48) == (192, 320, 3, 0, 0, 64, 128, 1, 0, 0)
