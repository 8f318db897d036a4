"""Claims about the least active experts that any choice of replicas could have."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.gate.rule import Routing
from moeprof.gate.softmax import SoftmaxRule
from moeprof.router import RoutingContext
from moeprof.router.dispatch import Metro, active_of_ranks, fewest_active_experts
from moeprof.workload.placement import Placement, place


def test_an_optimum_by_hand() -> None:
    # Experts 0, 1, 2 sit on ranks 0 and 1, expert 3 on rank 0: two each is the least.
    placement = Placement("drawn", ((0, 1, 2, 3), (0, 1, 2)))

    assert fewest_active_experts([0, 1, 2, 3], placement) == 2
    assert fewest_active_experts([0, 3], placement) == 1
    assert fewest_active_experts([], placement) == 0
    # Without replicas there is nothing to choose.
    assert fewest_active_experts([0, 2], Placement("drawn", ((0, 2), (1,)))) == 2


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4), st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_no_choice_of_replicas_is_better_than_the_optimum(
    seed: int, num_experts: int, num_ranks: int, num_more: int
) -> None:
    random = np.random.default_rng(seed)
    homes = [{int(random.integers(num_ranks))} for _ in range(num_experts)]
    for _ in range(num_more):
        homes[random.integers(num_experts)].add(int(random.integers(num_ranks)))
    held = [tuple(e for e in range(num_experts) if r in homes[e]) for r in range(num_ranks)]
    assert prod(map(len, homes)) <= 4**6
    best = min(max(Counter(choice).values()) for choice in product(*homes))

    assert fewest_active_experts(range(num_experts), Placement("drawn", tuple(held))) == best


@pytest.mark.parametrize("num_replicas", [16, 32, 64])
def test_metro_is_near_the_optimum_where_its_paper_measured(num_replicas: int) -> None:
    # Figure 8 of arXiv:2512.09277: batches of 32 tokens, EPLB's placement, at most 10.9 % above the
    # optimum. Here 128 experts on 8 ranks, top-8, 1.125 to 1.5 times as many slots, skewed logits.
    generator = torch.Generator().manual_seed(0)
    popularity = torch.randn(128, generator=generator)
    rule = SoftmaxRule(128, 8, renormalised=True, float32_weights=True)
    placement = place(
        "eplb",
        num_experts=128,
        num_ranks=8,
        seed=0,
        loads=popularity.exp().numpy(),
        num_replicas=num_replicas,
    )
    found = least = 0
    for _ in range(40):
        logits = popularity + torch.randn(32, 128, generator=generator)
        experts = rule.choose(logits).experts
        routing = Routing(experts, torch.ones(experts.shape))
        ranks = Metro().dispatch(routing, RoutingContext(0, rule, placement))
        found += int(active_of_ranks(experts, ranks, 128, 8).max())
        least += fewest_active_experts(experts.flatten().tolist(), placement)

    assert least <= found <= 1.109 * least
