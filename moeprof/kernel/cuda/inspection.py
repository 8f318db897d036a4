"""What the compiler made of the kernels: registers, blocks, instructions, broken expectations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.errors import ExtraMissing
from moeprof.kernel.cuda.cache import build
from moeprof.kernel.cuda.ceilings import Ceilings, exceeded
from moeprof.kernel.cuda.occupancy import blocks_per_multiprocessor
from moeprof.kernel.cuda.sass import Instructions, instructions_of
from moeprof.kernel.cuda.usage import Usage, remarks_of, usage_of
from moeprof.kernel.cuda.variants import Variant
from moeprof.processes import in_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Target = tuple[Variant, str]  # a variant and an architecture

_LOCAL_MEMORY = ("LDL", "STL")


@dataclass(frozen=True, slots=True)
class Inspected:
    """One variant compiled for one architecture.

    `blocks_per_multiprocessor` is what registers, shared memory and threads allow.
    `instructions` is None where no nvdisasm was found. `complaints` are broken expectations.
    """

    variant: Variant
    architecture: str
    compiler: str
    usage: Usage
    blocks_per_multiprocessor: int
    instructions: Instructions | None
    complaints: tuple[str, ...]

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block, static and dynamic."""
        return self.usage.static_shared_bytes + self.variant.shared_bytes


def inspect_all(
    targets: Sequence[Target], *, num_workers: int, on_progress: Callable[[str, int, int], None]
) -> tuple[Inspected, ...]:
    """Return what was made of every target, in their order.

    `on_progress` hears which kernel was finished, and how many are, of how many.

    Raises:
        KernelUnsupported: cuda-core is missing, or a source does not compile.

    """
    found: dict[Target, Inspected] = {}
    ended = (
        ((target, inspect_target(target)) for target in targets)
        if num_workers == 1
        else in_processes(inspect_target, targets, num_workers)
    )
    for target, inspected in ended:
        found[target] = inspected
        name = f"{inspected.variant.name} {inspected.architecture}"
        on_progress(name, len(found), len(targets))
    return tuple(found[target] for target in targets)


def inspect_target(target: Target) -> Inspected:
    """Build one variant for one architecture and look at it. Raises KernelUnsupported."""
    variant, architecture = target
    built = build(variant, architecture)
    usage = usage_of(built)
    try:
        instructions: Instructions | None = instructions_of(built)
    except ExtraMissing:
        instructions = None
    num_blocks = blocks_per_multiprocessor(variant, usage, architecture)
    return Inspected(
        variant=variant,
        architecture=architecture,
        compiler=built.compiler,
        usage=usage,
        blocks_per_multiprocessor=num_blocks,
        instructions=instructions,
        complaints=(
            *remarks_of(built),
            *(() if num_blocks else ("not one block fits on a multiprocessor",)),
            *_broken(variant, instructions),
        ),
    )


def complaints_of(inspected: Inspected, ceilings: Ceilings) -> tuple[str, ...]:
    """Return everything that is wrong with a kernel, in words: expectations and ceilings."""
    above = exceeded(
        ceilings,
        inspected.variant.name,
        inspected.architecture,
        inspected.usage,
        compiler=inspected.compiler,
    )
    return (*inspected.complaints, *above)


def ceilings_from(all_inspected: Sequence[Inspected]) -> Ceilings:
    """Return ceilings that are exactly what kernels, compiled by one compiler, use."""
    (compiler,) = {inspected.compiler for inspected in all_inspected}
    registers: dict[str, dict[str, int]] = {}
    for each in all_inspected:
        registers.setdefault(each.architecture, {})[each.variant.name] = each.usage.registers
    return Ceilings(compiler, registers)


def _broken(variant: Variant, instructions: Instructions | None) -> Iterator[str]:
    if instructions is None:
        yield "its instructions are not known: pip install nvidia-cuda-nvdisasm"
        return
    for pattern in variant.expects:
        if not instructions.count(pattern):
            yield f"has no {pattern}"
    if number := sum(instructions.count(kind) for kind in _LOCAL_MEMORY):
        yield f"{number} instructions use local memory"
