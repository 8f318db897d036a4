"""How many blocks of a kernel a multiprocessor of an architecture holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from moeprof.kernel.cuda.usage import Usage
    from moeprof.kernel.cuda.variants import Variant

_KIB: Final = 1024
_WARP: Final = 32
# The same from compute capability 8.0 to 12.0. Registers: CUDA C++ Programming Guide, "Technical
# Specifications per Compute Capability"; their allocation in units of 256 per warp, on four parts
# of a multiprocessor: cuda_occupancy.h of the CUDA toolkit; the 1 KiB of shared memory that CUDA
# keeps of every block: the guide, sections on shared memory of capabilities 8.x to 12.x.
_REGISTERS: Final = 65_536
_REGISTER_UNIT: Final = 256
_PARTS: Final = 4
_SHARED_RESERVED_BYTES: Final = 1 * _KIB
_SHARED_UNIT_BYTES: Final = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """What a multiprocessor has, and so what all its blocks together can use."""

    shared_bytes: int
    blocks: int
    threads: int

    @property
    def shared_per_block_bytes(self) -> int:
        """The most that one block can ask for, static and dynamic together."""
        return self.shared_bytes - _SHARED_RESERVED_BYTES


# The guide's table, which `cuda/__device/arch_traits.h` of NVIDIA's CCCL repeats.
_LIMITS: Final = {
    "sm_80": Limits(164 * _KIB, 32, 2048),
    "sm_86": Limits(100 * _KIB, 16, 1536),
    "sm_89": Limits(100 * _KIB, 24, 1536),
    "sm_90a": Limits(228 * _KIB, 32, 2048),
    "sm_100a": Limits(228 * _KIB, 32, 2048),
    "sm_103a": Limits(228 * _KIB, 32, 2048),
    "sm_120a": Limits(100 * _KIB, 24, 1536),
}


def limits_of(architecture: str) -> Limits:
    """Return the limits of one of `ARCHITECTURES`."""
    return _LIMITS[architecture]


def blocks_per_multiprocessor(variant: Variant, usage: Usage, architecture: str) -> int:
    """Return how many of the variant's blocks are resident at once; 0 where not one fits."""
    limits = limits_of(architecture)
    block_bytes = usage.static_shared_bytes + variant.shared_bytes
    if block_bytes > limits.shared_per_block_bytes:
        return 0
    taken_bytes = _up(block_bytes + _SHARED_RESERVED_BYTES, _SHARED_UNIT_BYTES)
    warps = _up(-(-variant.num_threads // _WARP), _PARTS)
    warp_registers = _up(usage.registers * _WARP, _REGISTER_UNIT)
    warps_held = _REGISTERS // _PARTS // warp_registers * _PARTS
    return min(
        limits.blocks,
        limits.threads // variant.num_threads,
        limits.shared_bytes // taken_bytes,
        warps_held // warps,
    )


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
