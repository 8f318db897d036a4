"""Claims about which replica computes which row."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.errors import WorkloadError
from moeprof.gate.rule import Routing
from moeprof.gate.softmax import SoftmaxRule
from moeprof.router import RoutingContext
from moeprof.router.dispatch import (
    First,
    LeastLoaded,
    Metro,
    RandomReplica,
    RoundRobin,
    active_of_ranks,
    dispatcher_names,
    load_dispatcher,
    rows_of_experts,
    rows_of_ranks,
)
from moeprof.router.dispatch.marginal import MarginalDispatch
from moeprof.workload.placement import Placement, place, rows_per_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

NAMES = ["first", "random", "round-robin", "least-loaded", "metro", "marginal-cost"]
ONE_HOME_PER_EXPERT = ["first", "least-loaded", "metro", "marginal-cost"]


def context(placement: Placement, num_experts: int, top_k: int = 2) -> RoutingContext:
    rule = SoftmaxRule(num_experts, top_k, renormalised=True, float32_weights=True)
    return RoutingContext(0, rule, placement)


def routed(experts: Sequence[Sequence[int]], weights: Tensor | None = None) -> Routing:
    ids = torch.tensor(experts, dtype=torch.int64)
    return Routing(ids, torch.ones(ids.shape) if weights is None else weights)


def all_homes(placement: Placement, expert: int) -> list[int]:
    return [rank for rank, experts in enumerate(placement.ranks) for e in experts if e == expert]


@st.composite
def batches(draw: st.DrawFn) -> tuple[Routing, RoutingContext]:
    """Random placements with replicas, also two of one expert on a rank, and unused slots."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    num_experts, num_ranks = draw(st.integers(2, 12)), draw(st.integers(1, 6))
    ranks: list[list[int]] = [[] for _ in range(num_ranks)]
    for slot in range(num_experts + draw(st.integers(0, 16))):
        expert = slot if slot < num_experts else random.integers(num_experts)
        ranks[random.integers(num_ranks)].append(int(expert))
    top_k = draw(st.integers(1, min(3, num_experts)))
    num_tokens = draw(st.integers(0, 12))
    logits = torch.from_numpy(random.random((num_tokens, num_experts), dtype=np.float32))
    answer = context(Placement("drawn", tuple(map(tuple, ranks))), num_experts, top_k)
    routing = answer.rule.choose(logits.to(draw(st.sampled_from([torch.float32, torch.bfloat16]))))
    unused = torch.from_numpy(random.random((num_tokens, top_k)) < draw(st.sampled_from([0, 0.4])))
    unused[:, 0] = False
    experts = routing.experts.where(~unused, routing.experts[:, :1])
    return Routing(experts, routing.weights.masked_fill(unused, 0)), answer


# Experts 0 on ranks 0 and 1; 1 on 0 and 2; 2 on 1 and 2; 3 on rank 0 alone.
PLACEMENT = Placement("drawn", ((0, 1, 3), (0, 2), (1, 2)))
# Rows per expert: 3, 2, 2, 1.
EXPERTS = [[0, 3], [0, 1], [1, 2], [2, 0]]


def test_first_takes_the_lowest_rank() -> None:
    ranks = First().dispatch(routed(EXPERTS), context(PLACEMENT, 4))

    assert ranks.tolist() == [[0, 0], [0, 0], [0, 1], [1, 0]]


def test_round_robin_by_hand() -> None:
    # Expert 0's rows go 0, 1, 0; expert 1's 0, 2; expert 2's 1, 2; expert 3 is on rank 0.
    ranks = RoundRobin().dispatch(routed(EXPERTS), context(PLACEMENT, 4))

    assert ranks.tolist() == [[0, 0], [1, 0], [2, 1], [2, 0]]


def test_least_loaded_by_hand() -> None:
    # Expert 3 has no choice: loads 1, 0, 0. Expert 0 has most rows, 3: rank 1 (0 < 1): 1, 3, 0.
    # Expert 1 before expert 2, both 2 rows: rank 2 (0 < 1): 1, 3, 2. Expert 2: rank 2: 1, 3, 4.
    ranks = LeastLoaded().dispatch(routed(EXPERTS), context(PLACEMENT, 4))

    assert ranks.tolist() == [[1, 0], [1, 2], [2, 2], [2, 1]]
    assert rows_of_ranks(ranks, 3).tolist() == [1, 3, 4]


def test_metro_by_hand() -> None:
    # Expert 3 is active on rank 0: 1, 0, 0. Expert 0: rank 1 (0 < 1): 1, 1, 0.
    # Expert 1: rank 2 (0 < 1): 1, 1, 1. Expert 2: ranks 1 and 2 tie, so rank 1: 1, 2, 1.
    ranks = Metro().dispatch(routed(EXPERTS), context(PLACEMENT, 4))

    assert ranks.tolist() == [[1, 0], [1, 2], [2, 1], [1, 1]]
    assert active_of_ranks(torch.tensor(EXPERTS), ranks, 4, 3).tolist() == [1, 2, 1]


def test_metro_does_not_count_experts_that_have_no_rows() -> None:
    # Experts 0 and 3 are idle. Expert 1 ties and takes rank 0; expert 2 ties and takes rank 1.
    ranks = Metro().dispatch(routed([[1, 2], [2, 1]]), context(PLACEMENT, 4))

    assert ranks.tolist() == [[0, 1], [1, 0]]


def test_an_even_split_activates_twice_what_metro_does() -> None:
    # The toy of METRO's figure 4 in small: 4 experts, each on 2 of 4 ranks, 2 rows each.
    placement = Placement("drawn", ((0, 1), (1, 2), (2, 3), (3, 0)))
    # Metro, by hand: 0 on rank 0 (of 0 and 3), 1 on 1, 2 on 2, 3 on 3.
    routing = routed([[0, 1], [2, 3], [0, 1], [2, 3]])
    even = RoundRobin().dispatch(routing, context(placement, 4))
    metro = Metro().dispatch(routing, context(placement, 4))

    assert rows_of_ranks(even, 4).tolist() == rows_of_ranks(metro, 4).tolist() == [2] * 4
    assert active_of_ranks(routing.experts, even, 4, 4).tolist() == [2] * 4
    assert active_of_ranks(routing.experts, metro, 4, 4).tolist() == [1] * 4


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches())
@settings(max_examples=60, deadline=None)
def test_every_slot_goes_to_a_rank_that_holds_its_expert(
    name: str, batch: tuple[Routing, RoutingContext]
) -> None:
    routing, situation = batch
    experts, weights = routing.experts.clone(), routing.weights.clone()
    ranks = load_dispatcher(name).dispatch(routing, situation)

    assert ranks.shape == routing.experts.shape
    assert ranks.dtype == torch.int64
    assert torch.equal(routing.experts, experts)
    assert torch.equal(routing.weights, weights)
    assert situation.placement
    for expert, rank in zip(experts.flatten().tolist(), ranks.flatten().tolist(), strict=True):
        assert rank in all_homes(situation.placement, expert)


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches())
@settings(max_examples=60, deadline=None)
def test_unused_slots_activate_nothing(name: str, batch: tuple[Routing, RoutingContext]) -> None:
    routing, situation = batch
    assert situation.placement
    ranks = load_dispatcher(name).dispatch(routing, situation)
    sizes = situation.rule.num_experts, situation.placement.num_ranks
    counting = active_of_ranks(routing.experts, ranks, *sizes, routing.weights)

    assert torch.equal(active_of_ranks(routing.experts, ranks, *sizes), counting)


def test_a_token_that_uses_no_slot_counts_nowhere() -> None:
    routing = routed(EXPERTS, torch.zeros(4, 2))
    for name in NAMES:
        ranks = load_dispatcher(name).dispatch(routing, context(PLACEMENT, 4))

        assert rows_of_ranks(ranks, 3, routing.weights).tolist() == [0, 0, 0]
        assert active_of_ranks(routing.experts, ranks, 4, 3, routing.weights).sum() == 0
        for expert, rank in zip(
            routing.experts.flatten().tolist(), ranks.flatten().tolist(), strict=True
        ):
            assert rank in all_homes(PLACEMENT, expert)


@pytest.mark.parametrize("name", NAMES)
def test_without_replicas_there_is_one_answer(name: str) -> None:
    placement = place("round-robin", num_experts=8, num_ranks=3, seed=0)
    routing = context(placement, 8, 4).rule.choose(torch.randn(20, 8))
    ranks = load_dispatcher(name).dispatch(routing, context(placement, 8, 4))

    assert torch.equal(ranks, routing.experts % 3)


@given(batch=batches())
@settings(max_examples=60, deadline=None)
def test_round_robin_gives_the_rows_that_the_workload_floor_counts(
    batch: tuple[Routing, RoutingContext],
) -> None:
    routing, situation = batch
    assert situation.placement
    ranks = RoundRobin().dispatch(routing, situation)
    used = routing.experts[routing.weights != 0].numpy()
    expected = [int(rows.sum()) for rows in rows_per_rank(used, situation.placement)]

    found = rows_of_ranks(ranks, situation.placement.num_ranks, routing.weights)
    assert found.tolist() == expected


def in_plain_python(
    routing: Routing, situation: RoutingContext, *, count_rows: bool
) -> dict[int, int]:
    """Return the rank of each expert in use: one expert after another, no tensor."""
    assert situation.placement
    used = routing.experts[routing.weights != 0].tolist()
    rows = Counter(used)
    homes = {expert: sorted(set(all_homes(situation.placement, expert))) for expert in rows}
    sole = [expert for expert in rows if len(homes[expert]) == 1]
    rest = [expert for expert in rows if len(homes[expert]) > 1]
    if count_rows:
        rest.sort(key=lambda expert: (-rows[expert], expert))
    else:
        rest = metro_order(situation.placement, rest)
    load, answer = Counter[int](), {}
    for expert in sole + rest:
        answer[expert] = min(homes[expert], key=lambda rank: (load[rank], rank))
        load[answer[expert]] += rows[expert] if count_rows else 1
    return answer


def metro_order(placement: Placement, experts: list[int]) -> list[int]:
    """Experts by rising number of ranks, then by number."""
    return sorted(experts, key=lambda expert: (len(set(all_homes(placement, expert))), expert))


@pytest.mark.parametrize("name", ["least-loaded", "metro"])
@given(batch=batches())
@settings(max_examples=150, deadline=None)
def test_greedy_dispatch_is_one_expert_after_another(
    name: str, batch: tuple[Routing, RoutingContext]
) -> None:
    routing, situation = batch
    expected = in_plain_python(routing, situation, count_rows=name == "least-loaded")
    ranks = load_dispatcher(name).dispatch(routing, situation)

    used = routing.weights != 0
    found = dict(zip(routing.experts[used].tolist(), ranks[used].tolist(), strict=True))
    assert found == expected


@pytest.mark.parametrize("name", ONE_HOME_PER_EXPERT)
@given(batch=batches())
@settings(max_examples=60, deadline=None)
def test_an_expert_is_computed_on_one_rank_and_tokens_order_does_not_matter(
    name: str, batch: tuple[Routing, RoutingContext]
) -> None:
    routing, situation = batch
    ranks = load_dispatcher(name).dispatch(routing, situation)
    order = torch.randperm(len(ranks), generator=torch.Generator().manual_seed(1))
    mixed = Routing(routing.experts[order], routing.weights[order])

    assert torch.equal(load_dispatcher(name).dispatch(mixed, situation), ranks[order])
    pairs = set(zip(routing.experts.flatten().tolist(), ranks.flatten().tolist(), strict=True))
    assert len(pairs) == len(routing.experts.unique())


@pytest.mark.parametrize("dispatcher", [LeastLoaded(), Metro(), MarginalDispatch()])
@pytest.mark.parametrize("names", list(permutations(range(3))))
def test_renaming_ranks_renames_the_answer(
    dispatcher: LeastLoaded | Metro | MarginalDispatch, names: tuple[int, ...]
) -> None:
    # Experts 4, 5, 6 sit on one rank each and make loads distinct: 1, 2 and 4 active experts
    # (and rows) before experts 0 to 2 choose, so that no rule for ties is asked.
    held = [(3, 0, 1), (4, 5, 0, 2), (6, 7, 8, 9, 1, 2)]
    routing = routed([[3, 4], [5, 6], [7, 8], [9, 0]])
    plain = dispatcher.dispatch(routing, context(Placement("drawn", tuple(held)), 10))
    renamed = [()] * 3
    for rank, name in enumerate(names):
        renamed[name] = held[rank]
    other = dispatcher.dispatch(routing, context(Placement("drawn", tuple(renamed)), 10))

    assert torch.equal(other, torch.tensor(names)[plain])


def test_renaming_experts_renames_nothing_else_for_distinct_rows() -> None:
    # 4, 3, 2, 1 rows for experts 0 to 3, all on both ranks; expert 4 makes the ranks unequal.
    routing = routed([[0, 1], [0, 1], [0, 1], [0, 2], [2, 3], [4, 4]])
    routing.weights[5, 1] = 0
    names = torch.tensor([3, 1, 4, 0, 2])
    held = ((0, 1, 2, 3, 4), (0, 1, 2, 3))
    renamed = tuple(tuple(names[list(rank)].tolist()) for rank in held)
    plain = LeastLoaded().dispatch(routing, context(Placement("drawn", held), 5))
    other = LeastLoaded().dispatch(
        Routing(names[routing.experts], routing.weights), context(Placement("drawn", renamed), 5)
    )

    assert torch.equal(plain, other)


def test_random_draws_every_replica_as_often_and_again_for_the_same_seed() -> None:
    placement = Placement("drawn", ((0, 1), (0,), (0,)))
    routing = routed([[0]] * 30_000)

    def draw(seed: int) -> Tensor:
        dispatcher = RandomReplica(torch.Generator().manual_seed(seed))
        return dispatcher.dispatch(routing, context(placement, 2, 1))

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    # Five standard deviations of a binomial of 30,000 and 1/3 are 408 rows.
    assert (rows_of_ranks(draw(3), 3) - 10_000).abs().max() < 408


def test_random_refuses_a_generator_of_another_device() -> None:
    elsewhere = Routing(torch.zeros(1, 1, dtype=torch.int64, device="meta"), torch.ones(1, 1))
    with pytest.raises(WorkloadError, match="dispatcher random: generator must be of meta"):
        RandomReplica().dispatch(elsewhere, context(PLACEMENT, 4))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "random"])
def test_nothing_waits_for_a_value(name: str) -> None:
    # A tensor on the meta device has no values: what asked for one, or for a shape that depends
    # on one, would raise. So a CUDA graph can capture it.
    experts = torch.zeros(5, 2, dtype=torch.int64, device="meta")
    routing = Routing(experts, torch.ones(5, 2, device="meta"))
    ranks = load_dispatcher(name).dispatch(routing, context(PLACEMENT, 4))

    assert ranks.device.type == "meta"
    assert ranks.shape == (5, 2)
    assert rows_of_ranks(ranks, 3, routing.weights).shape == (3,)
    assert active_of_ranks(experts, ranks, 4, 3, routing.weights).shape == (3,)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_tokens", [0, 1])
def test_no_token_and_one_token(name: str, num_tokens: int) -> None:
    routing = routed(EXPERTS)
    few = Routing(routing.experts[:num_tokens], routing.weights[:num_tokens])
    ranks = load_dispatcher(name).dispatch(few, context(PLACEMENT, 4))

    assert ranks.shape == (num_tokens, 2)
    assert ranks.dtype == torch.int64


@pytest.mark.parametrize("name", NAMES)
def test_a_context_that_cannot_be_dispatched_is_refused(name: str) -> None:
    rule = SoftmaxRule(4, 2, renormalised=True, float32_weights=True)
    dispatcher = load_dispatcher(name)

    with pytest.raises(WorkloadError, match=f"dispatcher {name}, layer 7: needs a placement"):
        dispatcher.dispatch(routed(EXPERTS), RoutingContext(7, rule))
    with pytest.raises(WorkloadError, match=r"must hold experts 0\.\.4, got no rank for expert 4"):
        dispatcher.dispatch(routed(EXPERTS), context(PLACEMENT, 5))
    with pytest.raises(WorkloadError, match=r"must hold experts 0\.\.2, got expert 3 on rank 0"):
        dispatcher.dispatch(routed(EXPERTS), context(PLACEMENT, 3))


def test_counts_by_hand() -> None:
    experts = torch.tensor([[0, 1], [0, 0], [2, 1]])
    ranks = torch.tensor([[0, 1], [0, 1], [1, 1]])
    weights = torch.tensor([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])

    assert rows_of_experts(experts, 4).tolist() == [3, 2, 1, 0]
    assert rows_of_experts(experts, 4, weights).tolist() == [3, 1, 1, 0]
    assert rows_of_ranks(ranks, 3, weights).tolist() == [2, 3, 0]
    # Rank 0 has expert 0; rank 1 has experts 0, 1 and 2.
    assert active_of_ranks(experts, ranks, 4, 3, weights).tolist() == [1, 3, 0]


def test_the_names_are_those_of_the_dispatchers() -> None:
    assert list(dispatcher_names()[:6]) == NAMES
    with pytest.raises(WorkloadError, match="dispatcher 'metre' is not known; did you mean metro"):
        load_dispatcher("metre")
