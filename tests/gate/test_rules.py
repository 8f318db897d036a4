from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import FAMILIES, NUM_EXPERTS, TOP_K, tiny_model

from moeprof.gate.families import TUNING, family_names
from moeprof.gate.grouped_sigmoid import GroupedSigmoidRule
from moeprof.gate.site import find_gates
from moeprof.gate.softmax import SoftmaxRule
from moeprof.gate.steering import tune
from moeprof.gate.top_logits import TopLogitsRule
from moeprof.gate.tuning import GateTuning

if TYPE_CHECKING:
    from moeprof.gate.rule import GateRule

DTYPES = (torch.float32, torch.bfloat16)


def hidden_states(num_tokens: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(num_tokens, 32, generator=draw).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_rule_answers_what_the_familys_own_gate_does_bit_for_bit(
    family: str, dtype: torch.dtype
) -> None:
    site = find_gates(tiny_model(family, dtype))[0]
    states = hidden_states(2_000, dtype)

    logits, weights, experts = site.gate(states)
    ours = site.rule.choose(site.logits(states))

    assert torch.equal(site.logits(states), logits)
    assert torch.equal(ours.experts, experts)
    assert torch.equal(ours.weights, weights)
    assert ours.weights.dtype == weights.dtype
    assert len(experts.unique(dim=0)) > 5  # a gate that chooses alike would prove nothing


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_ties_fall_as_in_the_familys_own_gate(family: str, dtype: torch.dtype) -> None:
    site = find_gates(tiny_model(family, dtype))[0]
    with torch.no_grad():
        site.gate.weight[1:] = site.gate.weight[0]  # every logit of a token is the same
    states = hidden_states(64, dtype)

    _, weights, experts = site.gate(states)
    ours = site.rule.choose(site.logits(states))

    assert torch.equal(ours.experts, experts)
    assert torch.equal(ours.weights, weights)


@pytest.mark.parametrize("renormalised", [True, False])
@pytest.mark.parametrize("family", ["qwen2-moe", "qwen3-moe", "olmoe", "deepseek-v3"])
def test_a_gate_that_does_not_divide_by_the_sum_is_followed(
    family: str, *, renormalised: bool
) -> None:
    site = find_gates(tiny_model(family))[0]
    site.gate.norm_topk_prob = renormalised
    states = hidden_states(500)

    _, weights, _ = site.gate(states)

    assert torch.equal(site.rule.choose(site.logits(states)).weights, weights)


def rules() -> dict[str, GateRule]:
    bias = torch.linspace(-0.2, 0.2, NUM_EXPERTS)
    tuned = GateTuning(2.0, bias)
    return {
        "mixtral": SoftmaxRule(NUM_EXPERTS, TOP_K, renormalised=True, float32_weights=True),
        "qwen": SoftmaxRule(NUM_EXPERTS, TOP_K, renormalised=False, float32_weights=False),
        "tuned": SoftmaxRule(
            NUM_EXPERTS, TOP_K, renormalised=True, float32_weights=False, tuning=tuned
        ),
        "deepseek-v3": GroupedSigmoidRule(
            NUM_EXPERTS,
            TOP_K,
            num_groups=4,
            num_groups_used=2,
            renormalised=True,
            scaling_factor=2.5,
            correction_bias=bias,
        ),
        "gpt-oss": TopLogitsRule(NUM_EXPERTS, TOP_K),
        "gpt-oss tuned": TopLogitsRule(NUM_EXPERTS, TOP_K, tuned),
    }


@pytest.mark.parametrize("name", rules())
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-30, 30, width=32), min_size=NUM_EXPERTS, max_size=NUM_EXPERTS),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(DTYPES),
)
def test_the_weights_of_the_chosen_experts_are_the_choices_own(
    name: str, values: list[list[float]], dtype: torch.dtype
) -> None:
    rule = rules()[name]
    logits = torch.tensor(values).to(dtype)

    choice = rule.choose(logits)

    assert torch.equal(rule.weights(logits, choice.experts), choice.weights)
    preferred = rule.preferences(logits).gather(1, choice.experts).min(dim=1).values
    assert (rule.preferences(logits) > preferred.unsqueeze(1)).sum(dim=1).max() < TOP_K


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", rules())
def test_to_judge_is_to_choose_and_to_see_who_comes_next(name: str, dtype: torch.dtype) -> None:
    rule = rules()[name]
    logits = hidden_states(400, dtype)[:, :NUM_EXPERTS].contiguous()
    choice, preferences = rule.choose(logits), rule.preferences(logits)
    for num_candidates in range(TOP_K, NUM_EXPERTS + 1):
        judged = rule.judge(logits, num_candidates)

        liked = preferences.gather(1, judged.candidates)
        assert torch.equal(judged.scores, rule.scores(logits))
        assert torch.equal(judged.preferences, preferences)
        assert torch.equal(liked, preferences.topk(num_candidates, dim=1).values)
        assert torch.equal(judged.plain.experts, judged.candidates[:, :TOP_K])
        assert torch.equal(judged.plain.weights, rule.weights(logits, judged.plain.experts))
        if dtype == torch.float32:  # coarser logits are alike now and then
            assert torch.equal(judged.plain.experts.sort().values, choice.experts.sort().values)


@pytest.mark.parametrize("name", rules())
def test_renormalised_rules_give_every_token_the_same_sum_and_others_do_not(name: str) -> None:
    rule = rules()[name]
    logits = hidden_states(400)[:, :NUM_EXPERTS].contiguous()
    worst = rule.preferences(logits).argsort(dim=1)[:, :TOP_K]  # of experts never chosen, too
    sums = rule.weights(logits, worst).sum(dim=1)
    chosen = rule.choose(logits).weights.sum(dim=1)

    assert torch.allclose(sums, chosen.mean().expand(400)) == rule.renormalised
    assert torch.allclose(chosen, chosen.mean().expand(400)) == rule.renormalised


def test_weights_can_be_asked_for_any_number_of_experts() -> None:
    logits = hidden_states(5)[:, :NUM_EXPERTS]
    every = torch.arange(NUM_EXPERTS).expand(5, -1)

    for name, rule in rules().items():
        weights = rule.weights(logits, every)

        assert weights.shape == every.shape, name
        if name not in {"qwen", "deepseek-v3"}:
            assert torch.allclose(weights.sum(dim=1), torch.ones(5)), name


def test_deepseek_never_leaves_a_tokens_best_groups() -> None:
    rule = rules()["deepseek-v3"]
    logits = hidden_states(300)[:, :NUM_EXPERTS].contiguous()

    allowed = rule.preferences(logits).isfinite()

    assert (allowed.sum(dim=1) == 4).all()  # two groups of two experts
    assert allowed.gather(1, rule.choose(logits).experts).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_selection_bias_changes_who_is_chosen_and_never_what_an_expert_counts(
    family: str,
) -> None:
    model = tiny_model(family)
    states = hidden_states(200)
    site = find_gates(model)[0]
    logits = site.logits(states)
    plain = site.rule
    num_gates = len(find_gates(model))
    bias = torch.zeros(num_gates, NUM_EXPERTS)
    tune(model, selection_bias=bias)

    assert torch.equal(site.gate(states)[2], plain.choose(logits).experts)

    bias[:, 6] = 100.0  # in place: the gates see it at once
    _, weights, experts = site.gate(states)

    assert (experts == 6).any(dim=1).all()
    assert not (plain.choose(logits).experts == 6).any(dim=1).all()
    assert torch.equal(weights, plain.weights(logits, experts))


def test_a_temperature_above_one_flattens_weights_and_one_changes_no_choice() -> None:
    for family in FAMILIES:
        model = tiny_model(family)
        site = find_gates(model)[0]
        states = hidden_states(200)
        _, plain, _ = site.gate(states)

        tune(model, softmax_temperature=1.0)
        _, same, _ = site.gate(states)
        tune(model, softmax_temperature=50.0)
        _, flat, experts = site.gate(states)

        assert torch.equal(same, plain), family
        even = flat.amax(dim=1) / flat.amin(dim=1)
        assert even.max() < 1.2, family
        assert (plain.amax(dim=1) / plain.amin(dim=1)).max() > 1.5, family
        assert torch.equal(site.rule.choose(site.logits(states)).experts, experts), family


def test_a_rule_follows_a_gate_that_is_moved_or_changed_after_it_was_found() -> None:
    model = tiny_model("deepseek-v3")
    site = find_gates(model)[0]
    before: Any = site.rule

    model.to(torch.float64)
    site.gate.top_k = 3
    after: Any = site.rule

    assert before.correction_bias.dtype == torch.float32
    assert after.correction_bias.dtype == torch.float64
    assert after.top_k == 3
    assert TUNING not in vars(site.gate)


def test_the_families_of_the_documentation_are_known() -> None:
    assert family_names() == (
        "mixtral", "qwen2-moe", "qwen3-moe", "olmoe", "deepseek-v3", "gpt-oss", "upcycled",
    )  # fmt: skip
