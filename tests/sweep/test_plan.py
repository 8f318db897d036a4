from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from moeprof.recipe.load import LoadedRecipe, find_recipe, load_recipe
from moeprof.record import Role
from moeprof.sweep.case import rank_groups
from moeprof.sweep.plan import make_plan

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
name = "plan"
seed = 5

[workload]
models = ["tiny"]
kernels = ["torch-loop", "torch-grouped"]
batch_sizes = "1..16"
patterns = ["uniform", "balanced"]
placements = [{ num_ranks = 1 }, { strategy = "round-robin", num_ranks = 4 }]

[conditioning]
hold_celsius = [40, 60]

[order]
num_blocks = 8
sentinel_every = 5
"""


def loaded(folder: Path, text: str = RECIPE) -> LoadedRecipe:
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def test_every_combination_is_planned_once(tmp_path: Path) -> None:
    plan = make_plan(loaded(tmp_path))

    points = [e.case for b in plan.blocks for e in b.entries if e.role is Role.POINT]
    assert len(points) == len(set(points)) == 2 * 16 * 2 * 2 * 2
    assert plan.num_points == 2 * 16 * 2 * 2 * (1 + 4)


def test_the_order_is_the_same_for_a_seed_and_another_for_another(tmp_path: Path) -> None:
    recipe = loaded(tmp_path)

    assert make_plan(recipe) == make_plan(recipe)
    assert make_plan(recipe) != make_plan(loaded(tmp_path, RECIPE.replace("seed = 5", "seed = 6")))


def test_a_block_holds_one_temperature_and_begins_and_ends_with_a_sentinel(tmp_path: Path) -> None:
    for block in make_plan(loaded(tmp_path)).blocks:
        assert {entry.case.hold_celsius for entry in block.entries} == {block.hold_celsius}
        assert block.entries[0].role is block.entries[-1].role is Role.SENTINEL
        gaps = "".join(entry.role.value[0] for entry in block.entries).strip("s").split("s")
        assert max(map(len, gaps)) <= 5


def test_every_block_spans_the_batch_sizes(tmp_path: Path) -> None:
    for block in make_plan(loaded(tmp_path)).blocks:
        sizes = Counter(e.case.batch_size for e in block.entries if e.role is Role.POINT)

        assert set(sizes) == set(range(1, 17))
        assert max(sizes.values()) - min(sizes.values()) <= 1


def test_drift_over_the_order_is_not_correlated_with_batch_size(tmp_path: Path) -> None:
    plan = make_plan(loaded(tmp_path))
    entries = [e for b in plan.blocks for e in b.entries if e.role is Role.POINT]
    middle = len(entries) / 2

    mean = sum((i - middle) * (e.case.batch_size - 8.5) for i, e in enumerate(entries))

    spread = (len(entries) ** 2 / 12 * (16**2 / 12)) ** 0.5 * len(entries)
    assert abs(mean / spread) < 0.15


def test_no_sentinels_are_planned_when_none_are_asked_for(tmp_path: Path) -> None:
    plan = make_plan(loaded(tmp_path, RECIPE.replace("sentinel_every = 5", "sentinel_every = 0")))

    assert plan.num_sentinels == 0


def test_ranks_with_the_same_rows_are_one_workload(tmp_path: Path) -> None:
    plan = make_plan(loaded(tmp_path))
    cases = [
        e.case
        for b in plan.blocks
        for e in b.entries
        if e.case.placement.num_ranks == 4 and str(e.case.pattern) == "balanced"
    ]
    case = next(case for case in cases if case.batch_size == 16)

    groups = rank_groups(case, seed=5)

    assert [group.ranks for group in groups] == [(0, 1, 2, 3)]
    assert groups[0].workload.rows_per_expert == (4, 4)
    assert groups[0].workload.num_rows * 4 == 16 * 2


@pytest.mark.parametrize("name", ["quickstart", "same-work-fewer-experts"])
def test_equal_batches_do_equal_work_whatever_the_active_experts(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    cases = {e.case for b in make_plan(recipe).blocks for e in b.entries}

    flops: dict[int, set[int]] = {}
    for case in cases:
        (group,) = rank_groups(case, seed=1)
        flops.setdefault(case.batch_size, set()).add(group.workload.flops)
    assert all(len(values) == 1 for values in flops.values())


def test_the_sentinel_is_a_case_that_can_be_drawn(tmp_path: Path) -> None:
    text = RECIPE.replace('"balanced"]', '"active:8"]').replace('"1..16"', "[1, 2, 16]")

    plan = make_plan(loaded(tmp_path, text))

    assert rank_groups(plan.sentinel, seed=5)
    assert plan.sentinel.ep_size == 1
