from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from moeprof.errors import WorkloadError
from moeprof.gate.rule import Routing
from moeprof.router.policies.similarity import frobenius_similarity

Route = Callable[..., Routing]
Draw = Callable[..., torch.Tensor]
LAYER = 3  # of the fixture's context


def shares(routing: Routing) -> list[dict[int, float]]:
    """Give what every expert counts for each token, slots of one expert together."""
    tokens: list[dict[int, float]] = []
    for experts, weights in zip(routing.experts.tolist(), routing.weights.tolist(), strict=True):
        token: dict[int, float] = {}
        for expert, weight in zip(experts, weights, strict=True):
            token[expert] = token.get(expert, 0.0) + weight
        tokens.append(token)
    return tokens


def test_sere_by_hand(route: Route) -> None:
    # Primary: 0 (tokens 0 and 2) and 1 (token 1). Token 0's second, 2, is most like 1: it gets 2's
    # weight, 0.3 of 0.9. Token 1's second, 0, is primary. Token 2's second, 3, is most like 0,
    # which the token has: one slot of all the weight, one of none.
    probabilities = torch.tensor(
        [[0.6, 0.05, 0.3, 0.05], [0.3, 0.5, 0.1, 0.1], [0.5, 0.1, 0.1, 0.3]]
    )
    similarity = torch.eye(4)
    similarity[2] = torch.tensor([0.2, 0.4, 1.0, 0.9])
    similarity[3] = torch.tensor([0.3, 0.1, 0.9, 1.0])

    routing = route("sere", probabilities.log(), num_primary=1, similarities={LAYER: similarity})

    assert routing.experts.tolist() == [[0, 1], [1, 0], [0, 0]]
    expected = torch.tensor([[2 / 3, 1 / 3], [0.625, 0.375], [1.0, 0.0]])
    torch.testing.assert_close(routing.weights, expected)


def test_an_expert_that_none_resembles_is_kept(route: Route) -> None:
    probabilities = torch.tensor([[0.6, 0.05, 0.3, 0.05], [0.3, 0.5, 0.05, 0.15]])
    similarity = torch.eye(4)
    similarity[2] = torch.tensor([0.2, 0.4, 1.0, 0.0])

    below, above = (
        route(
            "sere",
            probabilities.log(),
            num_primary=1,
            similarity_threshold=threshold,
            similarities={LAYER: similarity},
        )
        for threshold in (0.4, 0.41)
    )

    assert below.experts[0].tolist() == [0, 1]
    assert above.experts[0].tolist() == [0, 2]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [None, 0.5, 0.9])
def test_sere_is_the_published_kernel_slot_by_slot(
    route: Route, draw: Draw, seed: int, threshold: float | None
) -> None:
    logits = draw(seed, 9, 10)
    similarity = torch.rand(10, 10, generator=torch.Generator().manual_seed(seed))
    plain = route("top-k", logits, top_k=4)
    for num_primary in (1, 2, 3):
        primary = sorted(set(plain.experts[:, :num_primary].flatten().tolist()))
        replaced = plain.experts.clone()
        for token in range(9):
            for slot in range(num_primary, 4):
                expert = int(plain.experts[token, slot])
                nearest = max(primary, key=lambda p, e=expert: float(similarity[e, p]))
                alike = threshold is None or float(similarity[expert, nearest]) >= threshold
                if expert not in primary and alike:
                    replaced[token, slot] = nearest

        routing = route(
            "sere",
            logits,
            top_k=4,
            num_primary=num_primary,
            similarity_threshold=threshold,
            similarities={LAYER: similarity},
        )

        for got, expected in zip(
            shares(routing), shares(Routing(replaced, plain.weights)), strict=True
        ):
            assert got == pytest.approx(expected)


def test_of_equally_similar_experts_the_lower_is_taken(route: Route) -> None:
    logits = torch.tensor([[5.0, 0.0, 0.0, 4.0], [0.0, 5.0, 0.0, 4.0], [0.0, 0.0, 5.0, 4.0]])

    routing = route("sere", logits, num_primary=1, similarities={LAYER: torch.zeros(4, 4) - 1.0})

    assert routing.experts.tolist() == [[0, 0], [1, 0], [2, 0]]


def test_frobenius_similarity_by_hand() -> None:
    # Distances: 0 to 1 is 3, 0 to 2 is 4 (the other axis), 1 to 2 is 5, the greatest.
    outputs = torch.tensor([[[0.0, 0.0]], [[3.0, 0.0]], [[0.0, 4.0]]])

    similarity = frobenius_similarity(outputs)

    expected = torch.tensor([[1.0, 0.4, 0.2], [0.4, 1.0, 0.0], [0.2, 0.0, 1.0]])
    torch.testing.assert_close(similarity, expected)


def test_experts_that_are_all_the_same_are_all_similar() -> None:
    assert torch.equal(frobenius_similarity(torch.ones(3, 2, 5)), torch.ones(3, 3))


@pytest.mark.parametrize("outputs", [torch.ones(3), torch.full((2, 2), float("nan"))])
def test_outputs_that_cannot_be_compared_are_refused(outputs: torch.Tensor) -> None:
    with pytest.raises(WorkloadError, match="experts' outputs must be finite and"):
        frobenius_similarity(outputs)
