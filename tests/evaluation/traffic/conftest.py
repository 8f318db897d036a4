"""A scene by its traffic alone, and decisions that are the model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from moeprof.gate.rule import Routing
from moeprof.recipe.scene import Scene

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.evaluation.traffic.protocol import Traffic


class MakeScene(Protocol):
    def __call__(self, *, num_seeds: int = 3, seed: int = 0, **traffic: Any) -> Scene: ...


class Plain:
    """Plain top-k, which keeps what it was shown and chose."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.order: list[tuple[int, int]] = []
        self.logits: list[Tensor] = []
        self.experts: list[Tensor] = []

    def __call__(self, step: int, place: int, logits: Tensor) -> Routing:
        routing = self.traffic.rules[place].choose(logits.flatten(0, 1))
        experts = routing.experts.view(*logits.shape[:2], -1)
        self.order.append((step, place))
        self.logits.append(logits.clone())
        self.experts.append(experts)
        return Routing(experts, routing.weights.view(experts.shape))


@pytest.fixture(scope="session")
def make_scene() -> MakeScene:
    def make(*, num_seeds: int = 3, seed: int = 0, **traffic: Any) -> Scene:
        return Scene.model_validate(
            {
                "question": "Which?",
                "seed": seed,
                "num_seeds": num_seeds,
                "model": {"layer": "any"},
                "gpus": {"specification": "any"},
                "traffic": {"num_settling_steps": 16, "num_steps": 48} | traffic,
            }
        )

    return make


@pytest.fixture(scope="session")
def plain() -> type[Plain]:
    return Plain
