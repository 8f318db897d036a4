from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.errors import InputError
from moeprof.evaluation.quality import RoutingQuality, routing_quality
from moeprof.evaluation.routings import RoutingComparison
from moeprof.gate.rule import Routing
from moeprof.gate.softmax import SoftmaxRule
from moeprof.gate.tuning import GateTuning

RULE = SoftmaxRule(num_experts=4, top_k=2, renormalised=True, float32_weights=True)
# One token whose scores are 0.5, 0.3, 0.15 and 0.05.
LOGITS = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()


def uses(*experts: int, weights: tuple[float, ...] | None = None) -> Routing:
    shares = weights or (1 / len(experts),) * len(experts)
    return Routing(torch.tensor([experts]), torch.tensor([shares]))


def compare(
    routed: Routing,
    *,
    plain: Routing | None = None,
    logits: torch.Tensor = LOGITS,
    rule: SoftmaxRule = RULE,
    mask: torch.Tensor | None = None,
) -> RoutingQuality:
    comparison = RoutingComparison()
    comparison.add(
        requests=torch.arange(len(logits)),
        logits=logits,
        rule=rule,
        plain=rule.choose(logits) if plain is None else plain,
        routed=routed,
        mask=mask,
    )
    return routing_quality(comparison, seed=0)


@pytest.mark.parametrize(
    ("routed", "mass", "changed", "top_1_kept"),
    [
        (uses(0, 1), 1.0, 0.0, 1.0),
        (uses(1, 0), 1.0, 0.0, 1.0),  # the order does not matter
        (uses(0, 2), 0.65 / 0.8, 0.5, 1.0),
        (uses(2, 1), 0.45 / 0.8, 0.5, 0.0),
        (uses(3, 2), 0.2 / 0.8, 1.0, 0.0),
        (uses(0, 0, weights=(1.0, 0.0)), 0.5 / 0.8, 0.5, 1.0),  # one slot is not used
        (uses(0, 1, 2), 0.95 / 0.8, 1 / 3, 1.0),
    ],
)
def test_figures_worked_by_hand(
    routed: Routing, mass: float, changed: float, top_1_kept: float
) -> None:
    found = compare(routed)

    assert found.retained_mass_fraction.estimate == pytest.approx(mass, rel=1e-6)
    assert found.changed_selections_fraction.estimate == pytest.approx(changed)
    assert found.top_1_kept_fraction.estimate == top_1_kept


def test_scores_are_the_gates_own_and_a_bias_chooses_without_weighing() -> None:
    # The bias makes plain top-k take 2 and 3, of scores 0.15 and 0.05.
    tuning = GateTuning(selection_bias=torch.tensor([0.0, 0.0, 1.0, 1.0]))
    biased = SoftmaxRule(4, 2, renormalised=True, float32_weights=True, tuning=tuning)
    found = compare(uses(2, 1), rule=biased)

    assert found.retained_mass_fraction.estimate == pytest.approx(0.45 / 0.2, rel=1e-6)
    assert found.changed_selections_fraction.estimate == 0.5
    # 2 has the highest score of those that plain top-k uses; 0, which it does not, is no loss.
    assert found.top_1_kept_fraction.estimate == 1.0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32))
def test_the_same_decisions_in_any_order_differ_by_exactly_nothing(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, 4, generator=random) * 5
    plain = RULE.choose(logits)
    found = compare(Routing(plain.experts.flip(-1), plain.weights.flip(-1)), logits=logits)

    assert found.retained_mass_fraction.estimate == 1.0
    assert found.changed_selections_fraction.estimate == 0.0
    assert found.top_1_kept_fraction.estimate == 1.0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32))
def test_without_a_bias_no_other_choice_of_k_has_more_mass(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, 4, generator=random) * 5
    experts = torch.rand(9, 4, generator=random).argsort(-1)[:, :2]
    found = compare(Routing(experts, torch.ones(9, 2)), logits=logits)

    assert 0 < found.retained_mass_fraction.estimate <= 1
    assert 0 <= found.changed_selections_fraction.estimate <= 1


def test_layers_add_up_and_requests_stay_apart() -> None:
    comparison = RoutingComparison()
    for routed in (uses(0, 1), uses(3, 2)):
        comparison.add(
            requests=torch.tensor([5]),
            logits=LOGITS,
            rule=RULE,
            plain=RULE.choose(LOGITS),
            routed=routed,
        )
    found = routing_quality(comparison, seed=0).changed_selections_fraction

    assert found.estimate == 0.5
    assert (found.num_requests, found.num_tokens) == (1, 2)


def test_padding_counts_for_nothing_whatever_stands_there() -> None:
    logits = torch.cat([LOGITS, LOGITS * math.nan])
    routed = Routing(torch.tensor([[0, 2], [-1, 99]]), torch.ones(2, 2))
    plain = Routing(torch.tensor([[0, 1], [-1, 99]]), torch.ones(2, 2))
    found = compare(routed, plain=plain, logits=logits, mask=torch.tensor([True, False]))

    assert found == compare(uses(0, 2))


def test_gate_logits_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="gate logits: must be finite, found NaN"):
        compare(uses(0, 1), logits=LOGITS * math.nan)


@pytest.mark.parametrize("expert", [-1, 4])
def test_an_expert_that_does_not_exist_is_refused(expert: int) -> None:
    with pytest.raises(InputError, match=rf"the router: must lie in 0\.\.3, found {expert}"):
        compare(uses(0, expert))


def test_decisions_that_would_be_taken_for_other_tokens_are_refused() -> None:
    logits = LOGITS.expand(3, -1)

    with pytest.raises(InputError, match=r"routed_experts: must be of 3 tokens .* got 1"):
        compare(uses(0, 1), logits=logits)
    with pytest.raises(InputError, match=r"plain_experts: must be of 3 tokens .* got 1"):
        compare(RULE.choose(logits), plain=uses(0, 1), logits=logits)
    with pytest.raises(InputError, match="logits: must be of 4 experts as the rule is, got 1"):
        compare(uses(0, 1), plain=uses(0, 1), logits=LOGITS[:, :1])


def test_memory_grows_with_requests_and_not_with_tokens() -> None:
    comparison = RoutingComparison()
    for _ in range(50):
        comparison.add(
            requests=torch.tensor([1, 2, 2]),
            logits=LOGITS.expand(3, -1),
            rule=RULE,
            plain=RULE.choose(LOGITS.expand(3, -1)),
            routed=RULE.choose(LOGITS.expand(3, -1)),
        )
    sums = comparison.sums()

    assert sums.requests.tolist() == [1, 2]
    assert sums.num_tokens.tolist() == [50, 100]
    assert all(len(figure) == 2 for figure in sums.sums.values())
