from __future__ import annotations

from dataclasses import replace

import pytest
from cuda_examples import COPIES

from moeprof.hardware.catalogue import gpu
from moeprof.kernel.cuda.occupancy import blocks_per_multiprocessor, limits_of
from moeprof.kernel.cuda.usage import Usage
from moeprof.kernel.cuda.variants import ARCHITECTURES

KIB = 1024


def blocks(
    architecture: str, *, threads: int, registers: int, dynamic: int = 0, static: int = 0
) -> int:
    variant = replace(COPIES, num_threads=threads, shared_bytes=dynamic)
    usage = Usage(registers, 0, 0, 0, static)
    return blocks_per_multiprocessor(variant, usage, architecture)


@pytest.mark.parametrize(
    ("threads", "registers", "resident"),
    [
        (256, 128, 2),
        (256, 129, 1),  # 136 after rounding, three warps on each quarter
        (1024, 64, 1),
        (1024, 65, 0),
        (128, 255, 2),  # 256 after rounding, two warps on each quarter
        (32, 16, 32),  # as many blocks as there may be
        (96, 255, 2),  # three warps take the room of four
    ],
)
def test_registers_limit_blocks_as_cuda_allocates_them(
    threads: int, registers: int, resident: int
) -> None:
    assert blocks("sm_90a", threads=threads, registers=registers) == resident


def test_shared_memory_limits_blocks_with_what_cuda_keeps_of_each() -> None:
    for_one = 227 * KIB

    assert blocks("sm_90a", threads=128, registers=32, dynamic=for_one) == 1
    assert blocks("sm_90a", threads=128, registers=32, dynamic=for_one, static=1) == 0
    assert blocks("sm_90a", threads=128, registers=32, dynamic=113 * KIB) == 2
    assert blocks("sm_90a", threads=128, registers=32, dynamic=113 * KIB + 1) == 1
    assert blocks("sm_86", threads=128, registers=32, dynamic=99 * KIB) == 1
    assert blocks("sm_86", threads=128, registers=32, dynamic=100 * KIB) == 0


def test_threads_limit_blocks() -> None:
    assert blocks("sm_80", threads=1024, registers=32) == 2
    assert blocks("sm_89", threads=1024, registers=32) == 1


def test_limits_are_those_of_the_catalogue() -> None:
    for name, architecture in (
        ("a100-sxm-80gb", "sm_80"),
        ("l40s", "sm_89"),
        ("h200-sxm", "sm_90a"),
        ("b200", "sm_100a"),
        ("b300", "sm_103a"),
        ("rtx-pro-6000-server", "sm_120a"),
    ):
        assert limits_of(architecture).shared_bytes == gpu(name).shared_bytes_per_sm
    assert all(limits_of(architecture).blocks >= 16 for architecture in ARCHITECTURES)
