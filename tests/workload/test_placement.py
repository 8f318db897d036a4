"""Claims about which expert sits on which rank, and which rows follow it there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeprof.errors import WorkloadError
from moeprof.workload.placement import STRATEGIES, Placement, place, rows_per_rank

STATIC = ["contiguous", "round-robin", "random"]


@st.composite
def placements(draw: st.DrawFn) -> tuple[int, Placement]:
    strategy = draw(st.sampled_from([*STATIC, "eplb"]))
    num_ranks = draw(st.integers(1, 6))
    num_experts = num_ranks * draw(st.integers(1, 6))
    num_replicas = num_ranks * draw(st.integers(0, 3))
    seed = draw(st.integers(0, 100))
    loads = np.random.default_rng(seed).random(num_experts)
    placement = place(
        strategy,
        num_experts=num_experts,
        num_ranks=num_ranks,
        seed=seed,
        loads=loads,
        num_replicas=num_replicas,
    )
    return num_experts, placement


@pytest.mark.parametrize(
    ("strategy", "num_experts", "num_ranks", "num_replicas", "ranks"),
    [
        ("contiguous", 8, 2, 0, ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("contiguous", 7, 3, 0, ((0, 1, 2), (3, 4), (5, 6))),
        ("contiguous", 4, 2, 2, ((0, 1, 2), (3, 0, 1))),
        ("round-robin", 8, 2, 0, ((0, 2, 4, 6), (1, 3, 5, 7))),
        ("round-robin", 7, 3, 0, ((0, 3, 6), (1, 4), (2, 5))),
        ("round-robin", 3, 2, 1, ((0, 2), (1, 0))),
        ("one-expert-per-gpu", 3, 3, 0, ((0,), (1,), (2,))),
    ],
)
def test_static_strategies_follow_expert_numbers(
    strategy: str,
    num_experts: int,
    num_ranks: int,
    num_replicas: int,
    ranks: tuple[tuple[int, ...], ...],
) -> None:
    placement = place(
        strategy, num_experts=num_experts, num_ranks=num_ranks, seed=0, num_replicas=num_replicas
    )

    assert placement == Placement(strategy, ranks)
    assert placement.num_ranks == num_ranks


@given(placements())
def test_every_expert_has_a_slot_and_ranks_are_even(case: tuple[int, Placement]) -> None:
    num_experts, placement = case

    slots = Counter(expert for rank in placement.ranks for expert in rank)

    assert set(slots) == set(range(num_experts))
    sizes = [len(rank) for rank in placement.ranks]
    assert max(sizes) - min(sizes) <= 1


def test_random_depends_on_the_seed_alone() -> None:
    first, again, other = (
        place("random", num_experts=32, num_ranks=4, seed=seed) for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_eplb_gives_the_hot_expert_the_replicas() -> None:
    placement = place(
        "eplb", num_experts=4, num_ranks=2, seed=0, loads=[10, 1, 1, 1], num_replicas=2
    )

    slots = Counter(expert for rank in placement.ranks for expert in rank)
    assert slots == {0: 3, 1: 1, 2: 1, 3: 1}


def test_eplb_places_the_published_example_gpu_by_gpu() -> None:
    loads = [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86]

    placement = place(
        "eplb",
        num_experts=12,
        num_ranks=8,
        seed=0,
        loads=loads,
        num_replicas=4,
        num_nodes=2,
        num_groups=4,
    )

    assert placement.ranks[:4] == ((5, 6), (5, 7), (8, 4), (3, 4))


@given(placements(), st.data())
def test_rows_are_conserved_and_replicas_share_them_evenly(
    case: tuple[int, Placement], data: st.DataObject
) -> None:
    num_experts, placement = case
    tokens = data.draw(st.lists(st.integers(0, num_experts - 1), max_size=60))
    ids = np.array(tokens, dtype=np.int64).reshape(-1, 1)

    rows = rows_per_rank(ids, placement)

    assert [len(rank) for rank in rows] == [len(rank) for rank in placement.ranks]
    assert sum(rank.sum() for rank in rows) == ids.size
    for expert in range(num_experts):
        shares = [
            share
            for rank, experts in zip(rows, placement.ranks, strict=True)
            for share, occupant in zip(rank, experts, strict=True)
            if occupant == expert
        ]
        assert sum(shares) == tokens.count(expert)
        assert max(shares) - min(shares) <= 1
        assert shares == sorted(shares, reverse=True)


def test_rows_are_dealt_in_the_order_of_ranks_and_slots() -> None:
    placement = Placement("round-robin", ((0, 2), (1, 0)))

    rows = rows_per_rank(np.array([[0, 1], [0, 1], [0, 2]]), placement)

    assert [rank.tolist() for rank in rows] == [[2, 1], [2, 1]]


def test_a_row_of_an_expert_on_no_rank_is_refused() -> None:
    placement = place("contiguous", num_experts=4, num_ranks=2, seed=0)

    with pytest.raises(WorkloadError, match="expert 5 has rows and is on no rank"):
        rows_per_rank(np.array([[0, 5]]), placement)


def test_every_strategy_is_documented_and_works() -> None:
    for strategy, meaning in STRATEGIES.items():
        placement = place(strategy, num_experts=4, num_ranks=4, seed=0, loads=[1, 2, 3, 4])
        assert sorted(placement.ranks) == [(0,), (1,), (2,), (3,)]
        assert meaning


@pytest.mark.parametrize(
    ("strategy", "numbers", "message"),
    [
        ("contiguous", {"num_ranks": 9}, r"num_ranks must lie in 1\.\.8 .*, got 9"),
        ("contiguous", {"num_ranks": 0}, "at least 1"),
        ("contiguous", {"num_experts": 0}, "at least 1"),
        ("random", {"num_replicas": -1}, "num_replicas at least 0"),
        ("one-expert-per-gpu", {}, "must have 8 ranks .* got 2 ranks"),
        ("one-expert-per-gpu", {"num_ranks": 8, "num_replicas": 8}, "no replicas"),
        ("eplb", {}, "loads must be given"),
        ("eplb", {"loads": [1, 2]}, r"loads must be \[8\], got \[2\]"),
        ("eplb", {"loads": [1] * 8, "num_ranks": 3}, "num_gpus must divide"),
    ],
)
def test_impossible_placements_are_refused(
    strategy: str, numbers: dict[str, int], message: str
) -> None:
    arguments = {"num_experts": 8, "num_ranks": 2, "seed": 0, **numbers}

    with pytest.raises(WorkloadError, match=message):
        place(strategy, **arguments)


def test_a_misspelt_strategy_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(WorkloadError, match="'round_robin'") as refusal:
        place("round_robin", num_experts=8, num_ranks=2, seed=0)

    assert refusal.value.hint == "Did you mean round-robin?"
