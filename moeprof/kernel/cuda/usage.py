"""What ptxas says that a kernel uses, read from its report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from moeprof.kernel.cuda.compile import Built

# The lines of `ptxas -v`, the same from CUDA 11 to 13: an entry begins with "Compiling entry
# function", and functions that were not inlined into it have properties of their own.
_ENTRY: Final = re.compile(r"Compiling entry function '(?P<name>[^']+)'")
_STACK: Final = re.compile(
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
)
_REGISTERS: Final = re.compile(r"Used (\d+) registers")
_SHARED: Final = re.compile(r"(\d+) bytes smem")
# ptxas drops `setmaxnreg` or serialises `wgmma` with a mere remark.
_REMARK: Final = re.compile(r"warning|potential performance loss|ignored", re.IGNORECASE)
_ABOUT_WARNINGS = "warnings can be suppressed"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one thread (`registers`, stack, spills) and one block (`static_shared_bytes`) use."""

    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    static_shared_bytes: int


def usage_of(built: Built) -> Usage:
    """Return what the variant's entry uses."""
    section = _section(built.report, built.variant.entry)
    stacks = [tuple(map(int, found)) for found in _STACK.findall(section)]
    used = _REGISTERS.search(section)
    assert stacks, "ptxas -v reports the stack of every function"
    assert used is not None, "ptxas -v reports the registers of every entry"
    shared = _SHARED.search(section)
    return Usage(
        registers=int(used[1]),
        stack_bytes=sum(stack for stack, _, _ in stacks),
        spill_store_bytes=sum(stores for _, stores, _ in stacks),
        spill_load_bytes=sum(loads for _, _, loads in stacks),
        static_shared_bytes=int(shared[1]) if shared is not None else 0,
    )


def remarks_of(built: Built) -> tuple[str, ...]:
    """Return the warnings in a compiler's report, once each."""
    lines = (line.strip() for line in built.report.splitlines())
    found = [line for line in lines if _REMARK.search(line) and _ABOUT_WARNINGS not in line]
    return tuple(dict.fromkeys(found))


def _section(report: str, entry: str) -> str:
    """Return the part of a report that is about one entry."""
    begins = list(_ENTRY.finditer(report))
    for number, begin in enumerate(begins):
        if begin["name"] == entry:
            end = begins[number + 1].start() if number + 1 < len(begins) else len(report)
            return report[begin.end() : end]
    raise AssertionError(
        f"no entry function {entry!r} in the source; there is {[b['name'] for b in begins]}"
    )
