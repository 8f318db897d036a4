"""Replica choice by seconds: against every choice, against METRO, and as one GPU slows down."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moeprof.errors import WorkloadError
from moeprof.gate.rule import Routing
from moeprof.gate.softmax import SoftmaxRule
from moeprof.router import RoutingContext
from moeprof.router.dispatch import Metro, active_of_ranks, rows_of_ranks
from moeprof.router.dispatch.marginal import MarginalDispatch
from moeprof.router.marginal.conditions import Conditions
from moeprof.router.marginal.curve import StepCurve
from moeprof.workload.placement import Placement, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

CURVE = StepCurve(2.75, 0.03)


def learnt(slowness: Sequence[float], hunger: Sequence[float] | None = None) -> Conditions:
    conditions = Conditions.of(0.0, len(slowness))
    conditions.learn(slowness=slowness, hunger=hunger)
    return conditions


def seconds(
    routing: Routing, ranks: Tensor, slowness: Sequence[float], curve: StepCurve, num_experts: int
) -> float:
    """Return the slowest rank's seconds, in those of one expert on a GPU of slowness 1."""
    active = active_of_ranks(routing.experts, ranks, num_experts, len(slowness)).double()
    rows = rows_of_ranks(ranks, len(slowness)).double()
    work = curve.launch_experts * (active > 0) + active + curve.row_experts * rows
    return float((work * torch.tensor(slowness, dtype=torch.float64)).max())


def skewed(seed: int, num_experts: int, num_tokens: int, top_k: int) -> tuple[Routing, Placement]:
    generator = torch.Generator().manual_seed(seed)
    popularity = torch.randn(num_experts, generator=generator)
    placement = place(
        "eplb",
        num_experts=num_experts,
        num_ranks=4,
        seed=0,
        loads=popularity.exp().numpy(),
        num_replicas=num_experts // 2,
    )
    logits = popularity + torch.randn(num_tokens, num_experts, generator=generator)
    return rule_of(num_experts, top_k).choose(logits), placement


def rule_of(num_experts: int, top_k: int) -> SoftmaxRule:
    return SoftmaxRule(num_experts, top_k, renormalised=True, float32_weights=True)


def test_by_hand() -> None:
    # Expert 3 is on rank 0 alone, and 0 may be on 0 and 1, 1 on 0 and 2, 2 on 1 and 2. Rank 1 takes
    # 2.5 times as long. Expert 0: rank 0 would be done at 2, rank 1 at 2.5: rank 0. Expert 1: 3 or
    # 1: rank 2. Expert 2: rank 1 at 2.5, rank 2 at 2: rank 2. The second look moves nothing: 0 has
    # 2 or 2.5, 1 has 3 or 2, 2 has 2.5 or 2.
    placement = Placement("drawn", ((0, 1, 3), (0, 2), (1, 2)))
    routing = Routing(torch.tensor([[0, 3], [0, 1], [1, 2], [2, 0]]), torch.ones(4, 2))
    dispatcher = MarginalDispatch(conditions=learnt([1.0, 2.5, 1.0]))

    ranks = dispatcher.dispatch(routing, RoutingContext(0, rule_of(4, 2), placement))

    assert ranks.tolist() == [[0, 0], [0, 2], [2, 2], [2, 0]]


def test_it_is_near_the_best_choice_there_is() -> None:
    found = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        num_experts, num_ranks = int(random.integers(3, 9)), int(random.integers(2, 4))
        homes = [
            sorted(set(random.integers(0, num_ranks, random.integers(1, 3)).tolist()))
            for _ in range(num_experts)
        ]
        held = [tuple(e for e in range(num_experts) if r in homes[e]) for r in range(num_ranks)]
        rule = rule_of(num_experts, 2)
        routing = rule.choose(torch.from_numpy(random.standard_normal((6, num_experts))).float())
        slowness = random.uniform(0.7, 1.6, num_ranks).tolist()
        ranks = MarginalDispatch(curve=CURVE, conditions=learnt(slowness)).dispatch(
            routing, RoutingContext(0, rule, Placement("drawn", tuple(held)))
        )
        least = min(
            seconds(routing, torch.tensor(each)[routing.experts], slowness, CURVE, num_experts)
            for each in product(*homes)
        )
        found.append(seconds(routing, ranks, slowness, CURVE, num_experts) / least)

    gaps = np.array(found) - 1
    # Found: 0.04 % above the optimum on average, 1.2 % at worst, none in 95 of 100; without a
    # second look it would be 0.2 % and 12 %.
    assert gaps.min() > -1e-12
    assert gaps.mean() < 0.001
    assert gaps.max() < 0.05
    assert (gaps < 1e-9).mean() > 0.93


@pytest.mark.parametrize(("num_experts", "num_tokens", "top_k"), [(32, 16, 4), (128, 32, 8)])
@pytest.mark.parametrize("curve", [StepCurve(), CURVE], ids=["experts", "rows too"])
def test_beside_metro(num_experts: int, num_tokens: int, top_k: int, curve: StepCurve) -> None:
    equal, unequal, more_active = [], [], []
    for seed in range(80):
        routing, placement = skewed(seed, num_experts, num_tokens, top_k)
        context = RoutingContext(0, rule_of(num_experts, top_k), placement)
        metro = Metro().dispatch(routing, context)
        drawn = np.random.default_rng(seed).uniform(0.8, 1.4, 4).tolist()
        for slowness, found in (([1.0] * 4, equal), (drawn, unequal)):
            ours = MarginalDispatch(curve=curve, conditions=learnt(slowness)).dispatch(
                routing, context
            )
            both = [seconds(routing, each, slowness, curve, num_experts) for each in (ours, metro)]
            found.append(both[0] / both[1])
            if found is equal:
                most = [
                    int(active_of_ranks(routing.experts, each, num_experts, 4).max())
                    for each in (ours, metro)
                ]
                more_active.append(most[0] - most[1])

    # At most a tenth worse than METRO, no worse on average, and better on unequal GPUs.
    assert max(equal + unequal) < 1.1
    assert np.mean(equal) <= 1
    assert np.mean(unequal) < 0.95
    # An expert more may be less in seconds where rows count; else METRO has none fewer on average.
    assert max(more_active) <= 1
    if not curve.row_experts:
        assert np.mean(more_active) <= 0


def test_as_a_gpu_slows_down_it_is_given_ever_fewer_experts() -> None:
    for seed in range(40):
        routing, placement = skewed(seed, 32, 16, 4)
        context = RoutingContext(0, rule_of(32, 4), placement)
        counts = []
        for slow in (0.5, 0.8, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0, 3.0, 10.0, 1000.0):
            dispatcher = MarginalDispatch(curve=CURVE, conditions=learnt([slow, 1, 1, 1]))
            ranks = dispatcher.dispatch(routing, context)
            counts.append(int(active_of_ranks(routing.experts, ranks, 32, 4)[0]))
        used = set(routing.experts.flatten().tolist())
        elsewhere = {expert for rank in placement.ranks[1:] for expert in rank}
        alone = used & (set(placement.ranks[0]) - elsewhere)

        assert counts == sorted(counts, reverse=True)
        assert counts[0] > counts[-1] == len(alone)


def test_renaming_gpus_renames_the_answer() -> None:
    for seed in range(150):
        random = np.random.default_rng(seed)
        routing, placement = skewed(seed, 32, 16, 4)
        context = RoutingContext(0, rule_of(32, 4), placement)
        # Coarse, so that many ranks would be done together.
        slowness, hunger = (random.choice([1.0, 1.0, 2.0, 1.5], 4) for _ in range(2))
        order = random.permutation(4)
        renamed = Placement("drawn", tuple(placement.ranks[rank] for rank in order))
        energy = (0.0, 0.4, 1.0)[seed % 3]
        plain, other = (
            MarginalDispatch(
                energy_fraction=energy,
                curve=StepCurve(2.0, 0.0, 3.0) if seed % 2 else CURVE,
                conditions=learnt(slow.tolist(), hungry.tolist()),
            ).dispatch(routing, RoutingContext(0, context.rule, where))
            for where, slow, hungry in (
                (placement, slowness, hunger), (renamed, slowness[order], hunger[order]),
            )
        )  # fmt: skip

        assert torch.equal(torch.from_numpy(order)[other], plain)


@pytest.mark.parametrize("hot", [0, 1])
def test_where_joules_count_a_hungry_gpu_is_given_less(hot: int) -> None:
    placement = Placement("drawn", (tuple(range(8)), tuple(range(8))))
    routing = rule_of(8, 4).choose(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))
    context = RoutingContext(0, rule_of(8, 4), placement)
    hunger = [1.0, 1.0]
    hunger[hot] = 3.0
    counts = []
    for energy in (0.0, 0.3, 0.6, 1.0):
        dispatcher = MarginalDispatch(energy, conditions=learnt([1.0, 1.0], hunger))
        active = active_of_ranks(routing.experts, dispatcher.dispatch(routing, context), 8, 2)
        counts.append(int(active[hot]))

    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 4
    assert counts[-1] == 0


def test_knobs_and_conditions_that_do_not_fit_are_refused() -> None:
    routing, placement = skewed(0, 32, 16, 4)
    with pytest.raises(WorkloadError, match=r"energy_fraction must lie in 0.0..1.0, got -0.1"):
        MarginalDispatch(-0.1)
    with pytest.raises(WorkloadError, match=r"conditions must be of 4 ranks .* got 2"):
        MarginalDispatch(conditions=learnt([1.0, 1.0])).dispatch(
            routing, RoutingContext(0, rule_of(32, 4), placement)
        )
