"""What one call costs: operations that are bounded, and no tensor but those of the first call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from moeprof.gate.softmax import SoftmaxRule
from moeprof.router import RoutingContext
from moeprof.router.marginal.conditions import Conditions
from moeprof.router.marginal.curve import StepCurve
from moeprof.router.marginal.homes import homes_of
from moeprof.router.marginal.router import MarginalCost, num_candidates
from moeprof.workload.placement import Placement, place

RULE = SoftmaxRule(32, 4, renormalised=True, float32_weights=True)
PLACEMENT = place("contiguous", num_experts=32, num_ranks=4, seed=0)
# Experts on two ranks: 0 and 24 can choose at once, then 8 and 16, which share rank 0, in turn.
REPLICATED = Placement(
    "drawn", ((*range(8), 8, 16), (*range(8, 16), 0), (*range(16, 24), 24), tuple(range(24, 32)))
)
VIEWS = {"view", "slice", "select", "unsqueeze", "squeeze", "expand", "detach", "alias", "t"}


class Watch(TorchDispatchMode):
    """Counts operations, and the tensors that are in no storage that was there before."""

    def __init__(self, known: set[int] | None = None) -> None:
        super().__init__()
        self.num_operations = 0
        self.storages = set(known or ())
        self.made: list[str] = []
        # Held, so that no storage is freed and its place taken by another.
        self._held: list[torch.Tensor] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        answer = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        self.num_operations += name not in VIEWS
        for tensor in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage().data_ptr()
                if tensor.numel() and storage not in self.storages:
                    self.made.append(name)
                    self._held.append(tensor)
                    self.storages.add(storage)
        return answer


def router(**knobs: Any) -> MarginalCost:
    return MarginalCost(curve=StepCurve(2.75, 0.03, 4.0), **knobs)


def logits(num_tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_tokens, 32, generator=torch.Generator().manual_seed(seed))


CASES = {
    "no placement": ({"lambda_": 0.3}, None, 105),
    "placement": ({"lambda_": 0.3}, PLACEMENT, 125),
    "joules": ({"lambda_": 0.3, "energy_fraction": 0.3}, PLACEMENT, 150),
    "replicas": ({"conditions": Conditions.of(0.3, 4)}, REPLICATED, 150),
}
cases = pytest.mark.parametrize(("knobs", "placement", "most"), CASES.values(), ids=CASES)


@cases
def test_operations_are_few_and_no_more_for_more_tokens(
    knobs: dict[str, Any], placement: Placement | None, most: int
) -> None:
    context, asked = RoutingContext(0, RULE, placement), router(**knobs)
    found = []
    for num_tokens in (1, 16, 256, 2048):
        drawn = logits(num_tokens)
        asked.route(drawn, context)
        with Watch() as watch:
            asked.route(drawn, context)
        found.append(watch.num_operations)

    assert len(set(found)) == 1
    assert found[0] <= most


@cases
def test_a_later_call_makes_the_tensors_of_the_gates_rule_and_no_other(
    knobs: dict[str, Any], placement: Placement | None, most: int
) -> None:
    context, asked, drawn = RoutingContext(0, RULE, placement), router(**knobs), logits(16, 1)
    first = asked.route(logits(16), context)
    with Watch() as by_rule:
        judged = RULE.judge(drawn, num_candidates(RULE))

    with Watch(storages_of(asked, placement)) as watch:
        answer = asked.route(drawn, context)

    assert watch.made == by_rule.made
    assert len(by_rule.made) < most
    assert torch.equal(answer.experts[:, 0], judged.plain.experts[:, 0])
    for one, other in ((first.experts, answer.experts), (first.weights, answer.weights)):
        assert one.data_ptr() == other.data_ptr()


def storages_of(asked: MarginalCost, placement: Placement | None) -> set[int]:
    """Return where the tensors are that the router and its placement keep."""
    kept = [
        tensor
        for buffers in asked._buffers.values()
        for tensor in (*buffers._held.values(), *buffers._constants.values())
    ]
    if placement is not None:
        kept += vars(homes_of(placement, RULE.num_experts, torch.device("cpu"))).values()
    return {
        tensor.untyped_storage().data_ptr() for tensor in kept if isinstance(tensor, torch.Tensor)
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("placement", [None, PLACEMENT, REPLICATED], ids=["none", "even", "more"])
def test_a_captured_graph_sees_new_logits_and_what_was_learnt(placement: Placement | None) -> None:
    num_ranks = 1 if placement is None else 4
    conditions = Conditions.of(0.3, num_ranks, "cuda")
    asked, context = router(conditions=conditions), RoutingContext(0, RULE, placement)
    shown = logits(16).cuda()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            asked.route(shown, context)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = asked.route(shown, context)
    for seed, trade in ((1, 0.3), (2, 0.0), (3, 0.6)):
        shown.copy_(logits(16, seed))
        conditions.learn(trade=trade, slowness=[1.0 + 0.2 * seed] + [1.0] * (num_ranks - 1))
        graph.replay()
        found = captured.experts.cpu(), captured.weights.cpu()
        expected = asked.route(shown, context)

        assert torch.equal(found[0], expected.experts.cpu())
        assert torch.equal(found[1], expected.weights.cpu())
