"""Claims about placements for ranks of unequal speed."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.errors import WorkloadError
from moeprof.workload.gem import gem_placement
from moeprof.workload.placement import Placement, place


def seconds(placement: Placement, loads: np.ndarray, speeds: np.ndarray) -> float:
    """Return the sum over steps of the slowest rank's time."""
    steps = np.atleast_2d(loads)
    finish = [
        steps[:, list(held)].sum(axis=1) / speed
        for held, speed in zip(placement.ranks, speeds, strict=True)
    ]
    return float(np.max(finish, axis=0).sum())


def cases(most_experts: int, most_ranks: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    def case(seed: int, num_experts: int, num_ranks: int, num_steps: int) -> tuple:
        random = np.random.default_rng(seed)
        loads = random.pareto(1.5, (num_steps, num_experts))
        return loads * (random.random(loads.shape) < 0.8), random.uniform(0.5, 1.5, num_ranks)

    return st.builds(
        case,
        st.integers(0, 10_000),
        st.integers(1, most_experts),
        st.integers(1, most_ranks),
        st.integers(1, 4),
    )


def test_a_placement_by_hand() -> None:
    # Speeds 2 and 1: of loads 6 + 4 + 3 + 2 = 15 the fast rank should have 10 and the slow 5.
    # With two slots each: 6 + 4 on the fast one, 3 + 2 on the slow one, both done after 5.
    assert gem_placement([3, 6, 2, 4], [2, 1]).ranks == ((1, 3), (0, 2))


def test_a_trace_parts_experts_that_are_busy_together() -> None:
    # All experts have the same mean. 0 and 1 are busy in the first step, 2 and 3 in the second:
    # side by side a step takes 2, parted 1.
    placement = gem_placement([[1, 1, 0, 0], [0, 0, 1, 1]], [1, 1])

    assert {len({0, 1} & set(rank)) for rank in placement.ranks} == {1}


def test_a_rank_has_its_share_of_slots_or_what_it_has_room_for() -> None:
    # One expert has nearly all the load: with room for it, the fast rank has nothing else.
    loads = [10, 1, 1, 1, 1, 1]

    assert sorted(map(len, gem_placement(loads, [2, 1]).ranks)) == [3, 3]
    assert gem_placement(loads, [2, 1], slots_per_rank=6).ranks == ((0,), (1, 2, 3, 4, 5))


@given(cases(most_experts=24, most_ranks=6))
@settings(max_examples=60, deadline=None)
def test_every_expert_is_placed_once_and_never_worse_than_contiguous(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    loads, speeds = case
    num_experts, num_ranks = loads.shape[1], len(speeds)
    found = gem_placement(loads, speeds)

    assert found.strategy == "gem"
    assert found.num_ranks == num_ranks
    assert sorted(expert for rank in found.ranks for expert in rank) == list(range(num_experts))
    assert max(map(len, found.ranks)) <= -(-num_experts // num_ranks)
    if num_ranks <= num_experts:
        contiguous = place("contiguous", num_experts=num_experts, num_ranks=num_ranks, seed=0)
        for given_speeds in (speeds, np.ones(num_ranks)):
            ours = gem_placement(loads, given_speeds)
            worst = seconds(contiguous, loads, given_speeds)
            assert seconds(ours, loads, given_speeds) <= worst * (1 + 1e-9)


def test_it_is_near_the_best_of_all_placements() -> None:
    # Brute force over the 90 ways to give 6 experts to 3 ranks with two slots each.
    lost = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        loads = random.pareto(1.5, (1 + seed % 3, 6))
        speeds = random.uniform(0.7, 1.3, 3)
        best = min(
            seconds(Placement("drawn", (way[:2], way[2:4], way[4:])), loads, speeds)
            for way in permutations(range(6))
            if way[0] < way[1] and way[2] < way[3] and way[4] < way[5]
        )
        found = seconds(gem_placement(loads, speeds), loads, speeds)
        assert found >= best * (1 - 1e-9)
        lost.append(found / best - 1)

    assert np.mean(lost) < 0.005
    assert np.mean(np.array(lost) > 1e-9) < 0.2


@given(cases(most_experts=10, most_ranks=4))
@settings(max_examples=40, deadline=None)
def test_no_swap_makes_it_better(case: tuple[np.ndarray, np.ndarray]) -> None:
    loads, speeds = case
    found = gem_placement(loads, speeds)
    before = seconds(found, loads, speeds)
    for one in range(len(speeds)):
        for other in range(one):
            for i in range(len(found.ranks[one])):
                for j in range(len(found.ranks[other])):
                    ranks = [list(rank) for rank in found.ranks]
                    ranks[one][i], ranks[other][j] = ranks[other][j], ranks[one][i]
                    swapped = Placement("drawn", tuple(map(tuple, ranks)))
                    assert seconds(swapped, loads, speeds) >= before * (1 - 1e-8)


def test_renaming_ranks_and_experts_renames_the_answer() -> None:
    random = np.random.default_rng(5)
    loads, speeds = random.random(12), random.uniform(0.5, 1.5, 3)
    names, rank_names = random.permutation(12), random.permutation(3)
    plain = gem_placement(loads, speeds)
    renamed = gem_placement(loads[names], speeds[rank_names])

    for rank, held in zip(rank_names, renamed.ranks, strict=True):
        assert sorted(names[list(held)]) == sorted(plain.ranks[rank])


def test_the_slow_rank_gets_less_the_slower_it_is() -> None:
    loads = np.random.default_rng(0).random(64)
    shares = [
        loads[list(gem_placement(loads, [1, 1, 1, slow]).ranks[3])].sum()
        for slow in (1.0, 0.9, 0.8, 0.7)
    ]

    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(loads.sum() * 0.7 / 3.7, rel=0.02)


@pytest.mark.parametrize(
    ("loads", "speeds", "slots", "message"),
    [
        ([[[1]]], [1], None, r"loads must be \[num_experts\] or .*, got shape \[1, 1, 1\]"),
        ([], [1], None, r"got shape \[0\]"),
        ([1, -2], [1], None, "loads must be finite and at least 0, got -2.0"),
        ([1, float("nan")], [1], None, "loads must be finite and at least 0, got nan"),
        ([1], [], None, r"speeds must be \[num_ranks\], got shape \[0\]"),
        ([1], [1, 0], None, "speeds must be finite and above 0, got 0.0"),
        ([1, 1, 1], [1, 1], 1, "slots_per_rank must be at least 2 for 3 experts on 2 ranks, got 1"),
    ],
)
def test_what_cannot_be_placed_is_refused(
    loads: list, speeds: list, slots: int | None, message: str
) -> None:
    with pytest.raises(
        WorkloadError, match=f"placement gem: {message}" if "got shape" not in message else message
    ):
        gem_placement(loads, speeds, slots_per_rank=slots)


def test_no_load_at_all_is_placed_all_the_same() -> None:
    assert sorted(map(len, gem_placement([0, 0, 0], [1, 1]).ranks)) == [1, 2]
