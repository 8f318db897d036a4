from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moeprof.gate.rule import Routing
from moeprof.gate.softmax import SoftmaxRule
from moeprof.router import RoutingContext, load_router

Route = Callable[..., Routing]
Used = Callable[[Routing], list[list[int]]]
Draw = Callable[..., torch.Tensor]


@given(
    cost=st.floats(1e-20, 1e20),
    penalty_nats=st.floats(0.0, 1e9),
    seed=st.integers(0, 1000),
)
def test_the_same_cost_for_every_expert_changes_nothing_at_any_lambda(
    cost: float, penalty_nats: float, seed: int
) -> None:
    # One GPU's power over its experts is such a cost: why the penalty was a null result.
    logits = torch.randn(20, 7, generator=torch.Generator().manual_seed(seed))
    rule = SoftmaxRule(7, 3, renormalised=True, float32_weights=True)
    router = load_router("logit-penalty", penalty_nats=penalty_nats, costs=torch.full((7,), cost))

    routing = router.route(logits, RoutingContext(layer=0, rule=rule))

    assert torch.equal(routing.experts, rule.choose(logits).experts)
    assert torch.equal(routing.weights, rule.choose(logits).weights)


def test_a_penalty_by_hand(route: Route, used: Used) -> None:
    # Mean cost 2: expert 0 loses 1.5 nats, the others 0.5, so 3.0, 2.5, 2.2 become 1.5, 2.0, 1.7.
    logits = torch.tensor([[3.0, 2.5, 2.2, -9.0]])

    routing = route(
        "logit-penalty", logits, penalty_nats=1.0, costs=torch.tensor([3.5, 1.5, 1.5, 1.5])
    )

    assert used(routing) == [[1, 2]]
    ratio = routing.weights[0, 0] / routing.weights[0, 1]
    torch.testing.assert_close(ratio.log(), torch.tensor(0.3))


@pytest.mark.parametrize("seed", range(5))
def test_choices_are_by_logit_less_lambda_times_cost(
    route: Route, used: Used, draw: Draw, seed: int
) -> None:
    logits = draw(seed, 10, 8)
    costs = torch.rand(8, generator=torch.Generator().manual_seed(seed)) + 0.1
    for penalty_nats in (0.1, 1.0, 10.0):
        penalised = logits.double() - penalty_nats * (costs.double() / costs.double().mean())

        routing = route("logit-penalty", logits, top_k=3, penalty_nats=penalty_nats, costs=costs)

        assert used(routing) == penalised.topk(3).indices.sort().values.tolist()


def test_costs_in_another_unit_are_the_same_costs(route: Route, draw: Draw) -> None:
    logits = draw(0, 30, 8)
    costs = torch.rand(8, generator=torch.Generator().manual_seed(0)) + 0.1

    joules, millijoules = (
        route("logit-penalty", logits, penalty_nats=2.0, costs=unit * costs) for unit in (1, 1000)
    )

    assert torch.equal(joules.experts, millijoules.experts)


def test_a_great_lambda_leaves_experts_of_one_cost_in_their_order(route: Route, used: Used) -> None:
    # Expert 0 is dearer and out. A million nats taken of each of the others would round their
    # logits, a hundredth apart, to the same number.
    logits = torch.tensor([[9.0, 1.0, 1.01, 1.02, 1.03]])

    routing = route(
        "logit-penalty", logits, penalty_nats=1e6, costs=torch.tensor([2.0, 1.0, 1.0, 1.0, 1.0])
    )

    assert used(routing) == [[3, 4]]
