from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from moeprof.gate.rule import GateRule, Routing
from moeprof.gate.softmax import SoftmaxRule
from moeprof.router import RoutingContext, load_router

Route = Callable[..., Routing]


def routed(
    name: str,
    logits: torch.Tensor,
    *,
    top_k: int = 2,
    rule: GateRule | None = None,
    **knobs: object,
) -> Routing:
    if rule is None:
        rule = SoftmaxRule(logits.shape[1], top_k, renormalised=True, float32_weights=True)
    return load_router(name, **knobs).route(logits, RoutingContext(layer=3, rule=rule))


@pytest.fixture
def route() -> Route:
    """Route logits through a router by name, by a normalised softmax where no rule is given."""
    return routed


@pytest.fixture
def used() -> Callable[[Routing], list[list[int]]]:
    """Give the experts that each token uses, in rising order; a slot of weight 0 is not used."""

    def of(routing: Routing) -> list[list[int]]:
        return [
            sorted(expert for expert, weight in zip(experts, weights, strict=True) if weight > 0)
            for experts, weights in zip(
                routing.experts.tolist(), routing.weights.tolist(), strict=True
            )
        ]

    return of


@pytest.fixture
def draw() -> Callable[..., torch.Tensor]:
    """Draw logits of which no two of a token are alike."""

    def of(seed: int, num_tokens: int, num_experts: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return 2 * torch.randn(num_tokens, num_experts, generator=generator)

    return of
