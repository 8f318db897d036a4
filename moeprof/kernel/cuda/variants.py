"""The ways in which moeprof's CUDA sources are compiled, each with what a launch of it needs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Final

# Compute capability 8.0 to 12.0; the "a" unlocks what only that generation has.
ARCHITECTURES: Final = ("sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_103a", "sm_120a")

# Each has a function `variants(architecture) -> tuple[Variant, ...]`.
_FAMILIES: Final = (
    "moeprof.kernel.cuda.stream",
    "moeprof.kernel.cuda.wgmma",
    "moeprof.kernel.cuda.mla",
    "moeprof.kernel.cuda.read_only",
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One compiled form of a source in `kernels/`.

    `source` is the file's name, `entry` the function's, `defines` the macros besides ARCH.
    `num_threads` is the block's size, `shared_bytes` its dynamic shared memory. `expects` names
    instructions that its machine code must have (as `LDGSTS.E.128`), and `headers` the files that
    stand between `device.cuh` and the source.
    """

    name: str
    source: str
    entry: str
    defines: tuple[tuple[str, str], ...]
    num_threads: int
    shared_bytes: int
    expects: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


def architecture_macro(architecture: str) -> str:
    """Return the value of ARCH: `sm_90a` is 90."""
    return architecture.removeprefix("sm_").rstrip("a")


def all_variants(architecture: str) -> tuple[Variant, ...]:
    """Return every variant that is built for an architecture, of every kernel."""
    return tuple(
        variant for family in _FAMILIES for variant in import_module(family).variants(architecture)
    )
