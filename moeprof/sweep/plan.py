"""The order of a sweep: randomised blocks at one temperature each, with sentinels between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from moeprof.errors import WorkloadError
from moeprof.record import Role
from moeprof.sweep.case import Case
from moeprof.workload.routing import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moeprof.recipe.load import LoadedRecipe


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in the order: a case, measured as a point or as the sentinel."""

    order_index: int
    role: Role
    case: Case


@dataclass(frozen=True, slots=True)
class Block:
    """Entries that are measured one after the other at one held temperature (None: not held)."""

    index: int
    hold_celsius: float | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Every entry of a sweep in its order; the same for the same recipe and seed."""

    blocks: tuple[Block, ...]
    sentinel: Case
    num_points: int  # one for every rank of every case
    num_sentinels: int


def make_plan(loaded: LoadedRecipe, can_run: Callable[[Case], bool] | None = None) -> Plan:
    """Order a recipe's points: blocks and the points within them shuffled by the recipe's seed.

    Batch sizes are dealt evenly to the blocks, so drift between blocks cannot look like a batch
    size. Blocks come in rounds of one for each temperature, in random order within the round, so
    drift cannot look like a temperature either. A sentinel stands at both ends of every block and
    after every `sentinel_every` points; it is a case that `can_run` says the device's kernels take
    (None: all of them).
    """
    recipe = loaded.recipe
    rng = np.random.default_rng([recipe.seed, 0x5EED])
    holds: tuple[float | None, ...] = recipe.conditioning.hold_celsius or (None,)
    cases = list(_cases(loaded))
    sentinel = _sentinel(cases, can_run)
    blocks_per_hold = min(max(1, -(-recipe.order.num_blocks // len(holds))), len(cases))
    drafts: list[list[tuple[float | None, list[Case]]]] = []
    for hold in holds:
        shuffled = [cases[index] for index in rng.permutation(len(cases))]
        shuffled.sort(key=lambda case: case.batch_size)  # stable: random among equal sizes
        dealt = []
        for first in rng.permutation(blocks_per_hold):
            members = shuffled[first::blocks_per_hold]
            dealt.append((hold, [members[index] for index in rng.permutation(len(members))]))
        drafts.append(dealt)
    blocks: list[Block] = []
    order_index = 0
    for hold, members in _in_rounds(drafts, rng):
        entries = []
        for role, case in _with_sentinels(members, sentinel, recipe.order.sentinel_every):
            held = case if hold is None else replace(case, hold_celsius=hold)
            entries.append(Entry(order_index, role, held))
            order_index += 1
        blocks.append(Block(len(blocks), hold, tuple(entries)))
    num_cases = sum(len(block.entries) for block in blocks)
    num_sentinels = sum(entry.role is Role.SENTINEL for block in blocks for entry in block.entries)
    num_points = len(holds) * sum(case.ep_size for case in cases)
    assert num_cases - num_sentinels == len(holds) * len(cases)
    return Plan(tuple(blocks), sentinel, num_points, num_sentinels)


def _sentinel(cases: list[Case], can_run: Callable[[Case], bool] | None) -> Case:
    """Return the case nearest to the middle of the recipe that can be drawn and run.

    One with few ranks, so that measuring it again and again stays cheap.
    """
    middle = len(cases) // 2
    nearest = sorted(
        range(len(cases)), key=lambda index: (cases[index].ep_size, abs(index - middle))
    )
    for index in nearest:
        if _can_be_drawn(cases[index]) and (can_run is None or can_run(cases[index])):
            return cases[index]
    return cases[middle]


def _can_be_drawn(case: Case) -> bool:
    layer = case.layer
    try:
        check(
            case.pattern,
            num_experts=layer.num_experts,
            top_k=layer.top_k,
            num_tokens=case.batch_size,
        )
    except WorkloadError:
        return False
    return True


def _cases(loaded: LoadedRecipe) -> Iterator[Case]:
    workload = loaded.recipe.workload
    for layer, kernel, dtype, placement, pattern, batch_size in product(
        loaded.layers,
        workload.kernels,
        workload.dtypes,
        workload.placements,
        loaded.patterns,
        workload.batch_sizes,
    ):
        yield Case(layer, kernel, dtype, batch_size, pattern, placement, None, workload.l2_state)


def _in_rounds(
    drafts: list[list[tuple[float | None, list[Case]]]], rng: np.random.Generator
) -> Iterator[tuple[float | None, list[Case]]]:
    """Yield the first block of every temperature in random order, then the second ones."""
    for blocks_of_round in zip(*drafts, strict=True):
        for index in rng.permutation(len(blocks_of_round)):
            yield blocks_of_round[index]


def _with_sentinels(cases: list[Case], sentinel: Case, every: int) -> Iterator[tuple[Role, Case]]:
    if not every:
        yield from ((Role.POINT, case) for case in cases)
        return
    yield Role.SENTINEL, sentinel
    for position, case in enumerate(cases, start=1):
        yield Role.POINT, case
        if position % every == 0 or position == len(cases):
            yield Role.SENTINEL, sentinel
