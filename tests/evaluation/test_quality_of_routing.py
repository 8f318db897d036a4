"""Claims about the quick figures of a routing: those of the slow comparison, and a plain sum's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.evaluation.quality import routing_quality
from moeprof.evaluation.quality_of_routing import gate_quality
from moeprof.evaluation.routings import RoutingComparison
from moeprof.gate.grouped_sigmoid import GroupedSigmoidRule
from moeprof.gate.rule import GateRule, Routing
from moeprof.gate.softmax import SoftmaxRule
from moeprof.gate.tuning import GateTuning

NUM_EXPERTS, TOP_K = 8, 3
RULES: dict[str, GateRule] = {
    "softmax": SoftmaxRule(NUM_EXPERTS, TOP_K, renormalised=True, float32_weights=True),
    "biased": SoftmaxRule(
        NUM_EXPERTS,
        TOP_K,
        renormalised=False,
        float32_weights=True,
        tuning=GateTuning(selection_bias=torch.linspace(-0.2, 0.2, NUM_EXPERTS)),
    ),
    "groups": GroupedSigmoidRule(
        num_experts=NUM_EXPERTS,
        top_k=TOP_K,
        num_groups=4,
        num_groups_used=2,
        renormalised=True,
        scaling_factor=1.0,
        correction_bias=torch.linspace(0.3, -0.3, NUM_EXPERTS),
    ),
}


def drawn(seed: int, num_slots: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of 2 seeds and 5 tokens, experts in any order, and weights of which some are 0."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, NUM_EXPERTS, generator=draw)
    experts = torch.rand(2, 5, NUM_EXPERTS, generator=draw).argsort(-1)[..., :num_slots]
    weights = torch.rand(2, 5, num_slots, generator=draw).clamp_(min=0.01)
    weights[torch.rand(2, 5, num_slots, generator=draw) < 0.3] = 0.0
    return logits, experts, weights


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from(sorted(RULES)))
def test_figures_are_those_of_the_comparison_of_routings(
    seed: int, num_slots: int, name: str
) -> None:
    rule = RULES[name]
    logits, experts, weights = drawn(seed, num_slots)
    weights[..., 0] = 1.0
    # A slot that is not used repeats an expert, as a Routing must have it.
    experts = torch.where(weights != 0, experts, experts[..., :1])

    mass, changed = gate_quality(rule, logits, experts, weights)

    for place in range(2):
        comparison = RoutingComparison()
        comparison.add(
            requests=torch.arange(5),
            logits=logits[place],
            rule=rule,
            plain=rule.choose(logits[place]),
            routed=Routing(experts[place], weights[place]),
        )
        found = routing_quality(comparison, seed=0)
        assert mass[place] == pytest.approx(found.retained_mass_fraction.estimate, rel=1e-5)
        assert changed[place] == pytest.approx(found.changed_selections_fraction.estimate)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from(sorted(RULES)))
def test_dropped_slots_retain_nothing(seed: int, num_slots: int, name: str) -> None:
    rule = RULES[name]
    logits, experts, weights = drawn(seed, num_slots)
    weights[0, 0] = 0.0  # a token of which nothing is left

    mass, changed = gate_quality(rule, logits, experts, weights)

    for place in range(2):
        scores = rule.scores(logits[place]).tolist()
        plain = rule.choose(logits[place]).experts.tolist()
        kept, differ = [], []
        for token in range(5):
            pairs = zip(experts[place, token].tolist(), weights[place, token], strict=True)
            used = {expert for expert, weight in pairs if weight != 0}
            whole = sum(scores[token][expert] for expert in plain[token])
            kept.append(sum(scores[token][expert] for expert in used) / whole)
            same = len(used & set(plain[token]))
            differ.append(1 - same / max(len(used), TOP_K))
        assert mass[place] == pytest.approx(np.mean(kept), rel=1e-5)
        assert changed[place] == pytest.approx(np.mean(differ))


def test_plain_top_k_keeps_all_its_mass_and_changes_nothing() -> None:
    for rule in RULES.values():
        logits, _, _ = drawn(0, 1)
        plain = rule.choose(logits.flatten(0, 1))
        shape = (2, 5, TOP_K)

        mass, changed = gate_quality(
            rule, logits, plain.experts.view(shape), plain.weights.view(shape)
        )

        np.testing.assert_array_equal(mass, 1.0)
        np.testing.assert_array_equal(changed, 0.0)
