"""What marginal-cost routing answers: equalities that must be exact, and the edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moeprof.errors import WorkloadError
from moeprof.gate.grouped_sigmoid import GroupedSigmoidRule
from moeprof.gate.softmax import SoftmaxRule
from moeprof.gate.top_logits import TopLogitsRule
from moeprof.router import RoutingContext
from moeprof.router.marginal.conditions import Conditions
from moeprof.router.marginal.curve import StepCurve
from moeprof.router.marginal.router import MarginalCost, num_candidates
from moeprof.workload.placement import Placement, place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from moeprof.gate.rule import GateRule, Routing

NUM_EXPERTS, TOP_K, NUM_RANKS = 32, 4, 4
CURVE = StepCurve(2.75, 0.03, 4.0)
LAMBDAS = (0.02, 0.1, 0.2, 0.4, 1.0, 3.0)
RULES: dict[str, GateRule] = {
    "mixtral": SoftmaxRule(32, 4, renormalised=True, float32_weights=True),
    "qwen3": SoftmaxRule(32, 4, renormalised=True, float32_weights=False),
    "olmoe": SoftmaxRule(32, 4, renormalised=False, float32_weights=False),
    "deepseek": GroupedSigmoidRule(
        32, 4, 8, 2, renormalised=True, scaling_factor=2.5,
        correction_bias=torch.linspace(-0.2, 0.3, 32),
    ),
    "gpt-oss": TopLogitsRule(32, 4),
}  # fmt: skip
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def logits_of(num_tokens: int, seed: int = 0, *, ties: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    popular = torch.linspace(1.0, -1.0, NUM_EXPERTS)[torch.randperm(32, generator=generator)]
    drawn = torch.randn(num_tokens, NUM_EXPERTS, generator=generator) + popular
    return (drawn * 2).round() / 2 if ties else drawn


def batches(num_batches: int) -> Iterator[tuple[int, Tensor]]:
    for seed in range(num_batches):
        yield seed, logits_of((16, 64, 256)[seed % 3], seed, ties=seed % 4 == 0)


def replicated(seed: int) -> Placement:
    """16 replicas, of random experts, on random ranks: some ranks may hold the same experts."""
    random = np.random.default_rng(seed)
    experts = np.concatenate([np.arange(NUM_EXPERTS), random.integers(NUM_EXPERTS, size=16)])
    ranks = np.split(experts[random.permutation(48)], NUM_RANKS)
    return Placement("drawn", tuple(tuple(rank.tolist()) for rank in ranks))


def learnt(trade: float, slowness: list[float], hunger: list[float]) -> Conditions:
    conditions = Conditions.of(trade, len(slowness))
    conditions.learn(slowness=slowness, hunger=hunger)
    return conditions


def same(one: Routing, other: Routing) -> bool:
    return torch.equal(one.experts, other.experts) and torch.equal(one.weights, other.weights)


@rules
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_lambda_0_is_the_models_own_choice_bit_for_bit(rule: GateRule, dtype: torch.dtype) -> None:
    for seed, logits in batches(20):
        context = RoutingContext(0, rule, replicated(seed))

        answer = MarginalCost(curve=CURVE).route(logits.to(dtype), context)

        assert same(answer, rule.choose(logits.to(dtype)))


@rules
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_lambda_learnt_to_be_0_keeps_every_expert(rule: GateRule, dtype: torch.dtype) -> None:
    conditions = learnt(0.0, [1.0, 1.3, 0.7, 2.0], [1.0, 1.1, 1.0, 0.8])
    router = MarginalCost(curve=CURVE, energy_fraction=0.3, conditions=conditions)
    for seed, logits in batches(20):
        few = logits.to(dtype)
        answer = router.route(few, RoutingContext(0, rule, replicated(seed)))
        plain = rule.choose(few)
        preferred = rule.preferences(few)

        # Of experts that are preferred alike another may be taken: preferences are the same.
        mine, theirs = (preferred.gather(1, each.experts).sort().values for each in (answer, plain))
        assert torch.equal(mine, theirs)
        assert answer.weights.dtype == plain.weights.dtype
        if seed % 4 and dtype == torch.float32:
            assert torch.equal(answer.experts.sort().values, plain.experts.sort().values)


def changed_by_uniform_telemetry(num_batches: int, rule: GateRule) -> tuple[int, int, int]:
    """Return tokens, those whose answer differs, and those that routing changed from top-k."""
    tokens = changed = rerouted = 0
    for seed, logits in batches(num_batches):
        placement, trade = replicated(seed), LAMBDAS[seed % len(LAMBDAS)]
        energy = (0.0, 0.3, 1.0)[seed // 2 % 3]
        context = RoutingContext(0, rule, placement)
        without = MarginalCost(lambda_=trade, energy_fraction=energy, curve=CURVE)
        expected = without.route(logits, context)
        rerouted += int((expected.experts != rule.choose(logits).experts).any(dim=1).sum())
        slow, hungry = ((1.0, 1.0), (1.37, 1.0), (0.5, 0.8), (1.1, 1.9))[seed % 4]
        conditions = learnt(trade, [slow] * NUM_RANKS, [hungry] * NUM_RANKS)
        answer = MarginalCost(energy_fraction=energy, curve=CURVE, conditions=conditions).route(
            logits, context
        )
        differs = (answer.experts != expected.experts) | (answer.weights != expected.weights)
        changed += int(differs.any(dim=1).sum())
        tokens += len(logits)
    return tokens, changed, rerouted


@rules
def test_uniform_telemetry_changes_no_selection(rule: GateRule) -> None:
    tokens, changed, rerouted = changed_by_uniform_telemetry(96, rule)

    assert tokens == 32 * (16 + 64 + 256)
    assert changed == 0
    assert rerouted > 0.2 * tokens


@pytest.mark.slow
def test_uniform_telemetry_changes_no_selection_of_a_million_tokens() -> None:
    tokens, changed, rerouted = changed_by_uniform_telemetry(9_000, RULES["mixtral"])

    assert tokens > 10**6
    assert changed == 0
    assert rerouted > 0.2 * tokens


def test_unequal_telemetry_does_change_selections() -> None:
    logits, context = logits_of(16), RoutingContext(0, RULES["mixtral"], replicated(1))
    equal, slow = (
        MarginalCost(conditions=learnt(0.4, [each, 1, 1, 1], [1] * 4)).route(logits, context)
        for each in (1.0, 2.0)
    )

    assert not torch.equal(equal.experts, slow.experts)


@rules
def test_renaming_gpus_changes_no_expert_and_no_weight(rule: GateRule) -> None:
    for seed, logits in batches(60):
        random = np.random.default_rng(seed)
        placement = replicated(seed)
        if seed % 5 == 0:  # GPUs that hold the same experts
            placement = Placement("twins", (*placement.ranks[:2], *placement.ranks[:2]))
            rest = set(range(NUM_EXPERTS)) - {e for rank in placement.ranks for e in rank}
            placement = Placement("twins", (*placement.ranks, tuple(rest)))
        number = placement.num_ranks
        # Coarse values, so that many ranks would be done together.
        slowness = random.choice([1.0, 1.0, 2.0, 1.5], number)
        hunger = random.choice([1.0, 2.0, 1.25], number)
        order = random.permutation(number)
        renamed = Placement(placement.strategy, tuple(placement.ranks[rank] for rank in order))
        trade, energy = LAMBDAS[seed % len(LAMBDAS)], (0.0, 0.5, 1.0)[seed % 3]
        curve = StepCurve(2.0) if seed % 2 else CURVE

        plain, other = (
            MarginalCost(
                curve=curve,
                energy_fraction=energy,
                conditions=learnt(trade, slow.tolist(), hungry.tolist()),
            ).route(logits, RoutingContext(0, rule, where))
            for where, slow, hungry in (
                (placement, slowness, hunger), (renamed, slowness[order], hunger[order]),
            )
        )  # fmt: skip

        assert same(plain, other)


@rules
def test_renaming_tokens_renames_the_answer(rule: GateRule) -> None:
    for seed, logits in batches(20):
        order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
        router = MarginalCost(lambda_=0.3, curve=CURVE)
        plain, other = (
            router.route(each, RoutingContext(layer, rule, replicated(seed)))
            for layer, each in enumerate((logits, logits[order]))
        )

        assert torch.equal(other.experts, plain.experts[order])
        assert torch.equal(other.weights, plain.weights[order])


@rules
@pytest.mark.parametrize("num_protected", [1, 2, 4])
def test_protected_experts_are_kept_forbidden_ones_not_chosen_and_none_twice(
    rule: GateRule, num_protected: int
) -> None:
    router = MarginalCost(lambda_=50.0, num_protected=num_protected, energy_fraction=0.5)
    for seed, logits in batches(10):
        answer = router.route(logits, RoutingContext(0, rule, replicated(seed)))
        judged = rule.judge(logits, num_candidates(rule))
        used = torch.zeros(len(logits), NUM_EXPERTS).scatter_add(
            1, answer.experts, (answer.weights > 0).float()
        )

        # At such a lambda the batch uses nothing else, and a token whatever of it is not forbidden.
        protected = judged.candidates[:, :num_protected]
        assert (used.gather(1, protected) == 1).all()
        assert (used <= 1).all()
        assert set(used.sum(dim=0).nonzero().flatten().tolist()) == set(protected.unique().tolist())
        assert (rule.preferences(logits).gather(1, answer.experts) > float("-inf")).all()
        if rule.renormalised:
            sums = rule.choose(logits).weights.sum(dim=1)
            torch.testing.assert_close(answer.weights.sum(dim=1), sums)


def test_a_batch_without_protected_experts_keeps_as_many_as_a_token_uses() -> None:
    logits, rule = logits_of(9), RULES["mixtral"]
    answer = MarginalCost(lambda_=1e6, num_protected=0).route(logits, RoutingContext(0, rule))

    assert len(set(answer.experts[answer.weights > 0].tolist())) == rule.top_k


def test_a_token_that_may_use_nothing_of_what_is_left_stays_plain() -> None:
    rule = SoftmaxRule(32, 2, renormalised=True, float32_weights=True)
    logits = torch.rand(20, 32, generator=torch.Generator().manual_seed(1))
    logits[:19, :10] += 9.0
    logits[:19, :2] += 9.0
    logits[19, 20:30] += 9.0  # none of this token's ten candidates is one of the others'
    answer = MarginalCost(lambda_=1e6, num_protected=0).route(logits, RoutingContext(0, rule))

    plain = rule.choose(logits)
    assert torch.equal(answer.experts[19], plain.experts[19])
    assert len(set(answer.experts[:19].flatten().tolist())) == 2


@pytest.mark.parametrize("num_tokens", [0, 1])
@pytest.mark.parametrize("top_k", [1, 3, 12])
def test_small_batches_and_gates_that_use_every_expert(num_tokens: int, top_k: int) -> None:
    # 12 experts: all are candidates from top 4 on.
    rule = SoftmaxRule(12, top_k, renormalised=True, float32_weights=True)
    placement = place("round-robin", num_experts=12, num_ranks=3, seed=0)
    logits = torch.randn(num_tokens, 12, generator=torch.Generator().manual_seed(1))
    answer = MarginalCost(lambda_=0.5).route(logits, RoutingContext(0, rule, placement))

    assert answer.experts.shape == answer.weights.shape == (num_tokens, top_k)
    torch.testing.assert_close(answer.weights.sum(dim=1), torch.ones(num_tokens))
    if num_tokens:
        assert answer.experts[0, 0] == logits.argmax()
        used = answer.experts[answer.weights > 0].tolist()
        assert len(used) == len(set(used)) >= 1


def test_one_token_drops_the_experts_that_are_worth_least() -> None:
    # Nobody else's experts to take, so that each loses its own share of the top 3: 0.6, 0.3, 0.1.
    # One expert fewer saves a third of the step: at lambda 0.6 that is worth 0.2, at 1.2 0.4.
    rule = SoftmaxRule(4, 3, renormalised=True, float32_weights=True)
    logits = torch.tensor([[0.6, 0.3, 0.1, 1e-6]]).log()
    found = [
        MarginalCost(lambda_=trade).route(logits, RoutingContext(0, rule)).weights[0].tolist()
        for trade in (0.2, 0.6, 1.2)
    ]

    assert found[0] == pytest.approx([0.6, 0.3, 0.1])
    assert found[1] == pytest.approx([2 / 3, 1 / 3, 0])
    assert found[2] == [1.0, 0.0, 0.0]


def test_answers_of_other_layers_and_sizes_are_left_alone() -> None:
    router, rule = MarginalCost(lambda_=0.3), RULES["mixtral"]
    first = router.route(logits_of(16), RoutingContext(0, rule))
    before = first.experts.clone(), first.weights.clone()
    router.route(logits_of(16, 1), RoutingContext(1, rule))
    router.route(logits_of(17, 1), RoutingContext(0, rule))

    assert torch.equal(first.experts, before[0])
    assert torch.equal(first.weights, before[1])


def test_calls_in_inference_mode_and_with_gradients_may_follow_each_other() -> None:
    router, rule = MarginalCost(lambda_=0.3), RULES["mixtral"]
    placement = Placement("of this test", replicated(3).ranks)
    logits, context = logits_of(16), RoutingContext(0, rule, placement)
    with torch.inference_mode():
        router.route(logits, context)
        conditions = Conditions.of(0.3, NUM_RANKS)
    conditions.learn(trade=0.2)
    answer = router.route(logits.clone().requires_grad_(), context)

    assert not answer.weights.requires_grad
    assert same(answer, MarginalCost(lambda_=0.3).route(logits, context))


@pytest.mark.parametrize(
    ("knobs", "fault"),
    [
        ({"lambda_": -0.1}, "router marginal-cost: lambda_ must be at least 0"),
        ({"lambda_": float("nan")}, "router marginal-cost: lambda_ must be at least 0"),
        ({"energy_fraction": 1.1}, r"energy_fraction must lie in 0.0..1.0, got 1.1"),
        ({"num_protected": -1}, "num_protected must be at least 0, got -1"),
        ({"num_protected": 1.5}, "num_protected must be a whole number, got 1.5"),
    ],
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, float], fault: str) -> None:
    with pytest.raises(WorkloadError, match=fault):
        MarginalCost(**knobs)


def test_what_does_not_fit_the_model_or_the_placement_is_refused() -> None:
    rule, logits = RULES["mixtral"], logits_of(4)
    with pytest.raises(WorkloadError, match=r"num_protected must lie in 0..4, got 5"):
        MarginalCost(lambda_=1.0, num_protected=5).route(logits, RoutingContext(0, rule))
    three = MarginalCost(conditions=Conditions.of(0.1, 3))
    with pytest.raises(WorkloadError, match=r"conditions must be of 4 ranks .* got 3"):
        three.route(logits, RoutingContext(0, rule, replicated(0)))
    with pytest.raises(WorkloadError, match=r"must hold experts 0\.\.31, got no rank"):
        three.route(logits, RoutingContext(0, rule, Placement("drawn", ((0,), (1,), (2,)))))
    with pytest.raises(WorkloadError, match="launch_experts must be at least 0, got -1"):
        StepCurve(-1)
    with pytest.raises(WorkloadError, match="row_experts must be at least 0, got nan"):
        StepCurve(0, float("nan"))
