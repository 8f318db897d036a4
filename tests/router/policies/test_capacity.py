from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from moeprof.gate.rule import Routing
from moeprof.gate.softmax import SoftmaxRule
from moeprof.router.policies.capacity import capacity_of

Route = Callable[..., Routing]
Used = Callable[[Routing], list[list[int]]]
Draw = Callable[..., torch.Tensor]


def scores_of(logits: torch.Tensor) -> list[list[float]]:
    return torch.softmax(logits, dim=-1).tolist()


def ranked(row: list[float]) -> list[int]:
    return sorted(range(len(row)), key=lambda expert: -row[expert])


def served(scores: list[list[float]], top_k: int, capacity: int, num_extra: int) -> list[list[int]]:
    """Serve tokens as an expert would by hand: its best ones, while it has room."""
    num_experts = len(scores[0])
    has: list[set[int]] = [set() for _ in scores]
    for expert in range(num_experts):
        wanting = [t for t, row in enumerate(scores) if expert in ranked(row)[:top_k]]
        for token in sorted(wanting, key=lambda t: -scores[t][expert])[:capacity]:
            has[token].add(expert)
    for place in range(top_k, min(num_experts, top_k + num_extra)):
        asked = {t: ranked(row)[place] for t, row in enumerate(scores) if len(has[t]) < top_k}
        for expert in range(num_experts):
            room = capacity - sum(expert in experts for experts in has)
            wanting = [token for token, wish in asked.items() if wish == expert]
            for token in sorted(wanting, key=lambda t: -scores[t][expert])[:room]:
                has[token].add(expert)
    return [sorted(experts) for experts in has]


@pytest.mark.parametrize(
    ("num_tokens", "factor", "capacity"),
    [(16, 1.0, 4), (16, 1.1, 5), (16, 0.01, 1), (16, 9.0, 16), (16, math.inf, 16), (1, 0.5, 1)],
)
def test_capacity_is_the_factor_times_the_mean_rounded_up(
    num_tokens: int, factor: float, capacity: int
) -> None:
    # 16 tokens x top 2 over 8 experts is 4 rows each.
    rule = SoftmaxRule(8, 2, renormalised=True, float32_weights=True)

    assert capacity_of(num_tokens, rule, factor) == capacity


def test_drop_by_hand(route: Route, used: Used) -> None:
    # 3 tokens x top 2 over 4 experts: 1.5, so an expert takes 2. All three want expert 0; token 2
    # wants it least and is left with expert 1, at all the weight. Expert 1 has two, which it takes.
    probabilities = torch.tensor([[0.6, 0.2, 0.1, 0.1], [0.5, 0.1, 0.3, 0.1], [0.4, 0.3, 0.2, 0.1]])

    routing = route("capacity-drop", probabilities.log(), capacity_factor=1.0)

    assert used(routing) == [[0, 1], [0, 2], [1]]
    assert routing.experts[2].tolist() == [1, 1]
    torch.testing.assert_close(routing.weights[2], torch.tensor([1.0, 0.0]))


def test_what_was_dropped_goes_where_there_is_room(route: Route, used: Used) -> None:
    # As above; token 2's next expert is 2, which has one token and takes another.
    probabilities = torch.tensor([[0.6, 0.2, 0.1, 0.1], [0.5, 0.1, 0.3, 0.1], [0.4, 0.3, 0.2, 0.1]])

    routing = route(
        "capacity-expanded", probabilities.log(), capacity_factor=1.0, num_extra_candidates=1
    )

    assert used(routing) == [[0, 1], [0, 2], [1, 2]]
    torch.testing.assert_close(routing.weights[2], torch.tensor([0.6, 0.4]))


def test_weights_of_a_family_that_does_not_normalise_are_as_they_were(route: Route) -> None:
    probabilities = torch.tensor([[0.6, 0.2, 0.1, 0.1], [0.5, 0.1, 0.3, 0.1], [0.4, 0.3, 0.2, 0.1]])
    rule = SoftmaxRule(4, 2, renormalised=False, float32_weights=True)

    routing = route("capacity-drop", probabilities.log(), capacity_factor=1.0, rule=rule)

    torch.testing.assert_close(routing.weights[2], torch.tensor([0.3, 0.0]))


def test_a_token_may_lose_all_and_then_names_its_best_expert(route: Route) -> None:
    # One row each: of two equal tokens the earlier is served.
    routing = route("capacity-drop", torch.tensor([[2.0, 1.0, 0.0, 0.0]] * 2), capacity_factor=0.1)

    assert routing.experts.tolist() == [[0, 1], [0, 0]]
    assert routing.weights[1].tolist() == [0.0, 0.0]
    torch.testing.assert_close(routing.weights[0].sum(), torch.tensor(1.0))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("factor", [0.2, 0.6, 1.0, 1.4, 2.0])
def test_experts_serve_their_best_tokens_and_no_more_than_they_can(
    route: Route, used: Used, draw: Draw, seed: int, factor: float
) -> None:
    logits = draw(seed, 14, 7) + torch.linspace(1.5, -1.5, 7)
    capacity = min(14, max(1, math.ceil(factor * 14 * 3 / 7)))

    dropped = route("capacity-drop", logits, top_k=3, capacity_factor=factor)
    assert used(dropped) == served(scores_of(logits), 3, capacity, 0)

    for num_extra in (0, 1, 2, 9):
        expanded = route(
            "capacity-expanded",
            logits,
            top_k=3,
            capacity_factor=factor,
            num_extra_candidates=num_extra,
        )

        experts = used(expanded)
        assert experts == served(scores_of(logits), 3, capacity, num_extra)
        assert max(sum(e in some for some in experts) for e in range(7)) <= capacity
        assert all(set(a) <= set(b) for a, b in zip(used(dropped), experts, strict=True))
