"""Claims about the balancer of experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeprof.errors import WorkloadError
from moeprof.workload.eplb import rebalance_experts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# The example in the README of deepseek-ai/EPLB: two layers, four groups of three experts.
EXAMPLE_LOADS = [
    [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
    [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
]
EXAMPLE_TABLE = [
    [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
    [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
]


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, int, int, int, int]:
    num_nodes = draw(st.sampled_from([1, 2, 4]))
    num_gpus = num_nodes * draw(st.integers(1, 3))
    num_groups = draw(st.sampled_from([1, 2, 3, 4, 8]))
    num_experts = num_groups * draw(st.integers(1, 6))
    fewest = -(-num_experts // num_gpus) * num_gpus
    num_replicas_total = fewest + num_gpus * draw(st.integers(0, 3))
    seed = draw(st.integers(0, 1000))
    loads = np.random.default_rng(seed).gamma(0.5, 100.0, (2, num_experts))
    return loads, num_replicas_total, num_groups, num_nodes, num_gpus


def test_the_published_example_is_reproduced_exactly() -> None:
    plan = rebalance_experts(EXAMPLE_LOADS, 16, 4, 2, 8)

    assert plan.physical_to_logical.tolist() == EXAMPLE_TABLE


@given(problems())
def test_the_three_tables_tell_the_same_story(
    problem: tuple[np.ndarray, int, int, int, int],
) -> None:
    loads, num_replicas_total, *_ = problem

    slots, replicas, counts = rebalance_experts(*problem)

    assert slots.shape == (len(loads), num_replicas_total)
    assert (counts >= 1).all()
    assert (counts.sum(axis=1) == num_replicas_total).all()
    for layer in range(len(loads)):
        for expert, count in enumerate(counts[layer]):
            where = replicas[layer, expert]
            assert (where[count:] == -1).all()
            assert sorted(where[:count]) == np.flatnonzero(slots[layer] == expert).tolist()


@given(problems())
def test_the_hierarchical_policy_keeps_a_group_on_one_node(
    problem: tuple[np.ndarray, int, int, int, int],
) -> None:
    loads, _, num_groups, num_nodes, _ = problem
    if num_groups % num_nodes:
        return

    slots = rebalance_experts(*problem).physical_to_logical

    group_size = loads.shape[1] // num_groups
    for layer in slots:
        groups = [set((node // group_size).tolist()) for node in np.split(layer, num_nodes)]
        assert sum(map(len, groups)) == num_groups


@given(problems())
def test_the_global_policy_depends_on_neither_groups_nor_nodes(
    problem: tuple[np.ndarray, int, int, int, int],
) -> None:
    loads, num_replicas_total, _, _, num_gpus = problem

    elsewhere = rebalance_experts(loads, num_replicas_total, 1, 2, num_gpus)
    flat = rebalance_experts(loads, num_replicas_total, 1, 1, num_gpus)

    assert np.array_equal(elsewhere.physical_to_logical, flat.physical_to_logical)


@given(problems())
def test_the_most_loaded_replica_could_not_be_lighter(
    problem: tuple[np.ndarray, int, int, int, int],
) -> None:
    loads, num_replicas_total, *_, num_gpus = problem

    counts = rebalance_experts(loads, num_replicas_total, 1, 1, num_gpus).logical_count

    # Any split whose largest share is smaller needs more slots than there are.
    for layer, count in zip(loads.astype(np.float32).astype(float), counts, strict=True):
        largest = (layer / count).max()
        needed = np.maximum(1, np.ceil(layer / (largest * (1 - 1e-5))))
        assert needed.sum() > num_replicas_total


def test_loads_that_tie_are_dealt_in_order() -> None:
    plan = rebalance_experts(np.ones((1, 4)), 6, 1, 1, 2)

    assert plan.physical_to_logical.tolist() == [[2, 0, 0, 3, 1, 1]]


@pytest.mark.parametrize(
    ("loads", "numbers", "message"),
    [
        ([1, 2, 3, 4], (4, 1, 1, 2), r"\[num_layers, num_experts\]"),
        ([[1, 2, 3, -4]], (4, 1, 1, 2), "at least 0, got -4"),
        ([[1, 2, 3, float("nan")]], (4, 1, 1, 2), "got nan"),
        ([[1, 2, 3, 4]], (4, 1, 1, 3), r"num_gpus must divide physical experts \(4\), got 3"),
        ([[1, 2, 3, 4]], (2, 1, 1, 2), "at least num_experts = 4, got 2"),
        ([[1, 2, 3, 4]], (6, 3, 1, 2), r"num_groups must divide num_experts \(4\), got 3"),
        ([[1, 2, 3, 4]], (6, 2, 2, 3), r"num_nodes must divide num_gpus \(3\), got 2"),
        ([[1, 2, 3, 4]], (4, 1, 1, 0), "at least 1, got 1, 1 and 0"),
    ],
)
def test_impossible_problems_are_refused(
    loads: ArrayLike, numbers: tuple[int, int, int, int], message: str
) -> None:
    with pytest.raises(WorkloadError, match=message):
        rebalance_experts(loads, *numbers)
