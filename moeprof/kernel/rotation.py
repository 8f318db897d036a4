"""Which expert slots each buffer set uses, so that launches in a row touch different memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.workload import Workload

# All sets together exceed the cache this many times (nvbench and flashinfer show what less does:
# a cache that is called cold and is warm).
CACHE_MULTIPLE = 5
MAX_BUFFER_SETS = 4096


@dataclass(frozen=True, slots=True)
class Rotation:
    """For each buffer set the slot of its first local expert, in a pool of `num_slots` experts.

    `l2_state` is what was reached: layers so small that MAX_BUFFER_SETS of them stay below
    CACHE_MULTIPLE times the cache are warm.
    """

    first_slots: tuple[int, ...]
    num_slots: int
    l2_state: L2State


def rotation(workload: Workload, *, l2_state: L2State, l2_bytes: int) -> Rotation:
    """Choose the buffer sets: one where warm, else as many as exceed the cache fivefold.

    No active expert's slot is used by two sets, so a slot comes back only after all other sets
    were read. The pool has room for a single active expert as well, so that the workloads of a
    sweep share one pool.
    """
    num_experts = workload.num_local_experts
    cold_bytes = CACHE_MULTIPLE * l2_bytes
    roomy = num_experts + min(math.ceil(cold_bytes / workload.bytes_per_expert), MAX_BUFFER_SETS)
    if l2_state == "warm":
        return Rotation(first_slots=(0,), num_slots=roomy, l2_state="warm")
    wanted = max(1, math.ceil(cold_bytes / workload.weight_bytes))
    num_sets = min(wanted, MAX_BUFFER_SETS)
    first_slots = _disjoint_shifts(workload.rows_per_expert, num_sets)
    return Rotation(
        first_slots=first_slots,
        num_slots=max(roomy, first_slots[-1] + num_experts),
        l2_state="cold" if num_sets == wanted else "warm",
    )


def _disjoint_shifts(rows_per_expert: tuple[int, ...], num_shifts: int) -> tuple[int, ...]:
    """Return the least rising shifts by which no two copies of the active slots overlap."""
    active = sum(1 << expert for expert, rows in enumerate(rows_per_expert) if rows)
    shifts, shift, used = [0], 0, active
    while len(shifts) < num_shifts:
        shift += 1
        used >>= 1  # bit 0 of `used` is the slot at the present shift
        if not used & active:
            shifts.append(shift)
            used |= active
    return tuple(shifts)
