"""Biases balance a gate, and enter its selection only."""

from __future__ import annotations

import torch
from training.examples import collapsed, spread_surely

from moeprof.gate.site import find_gates
from moeprof.recipe.training import GateSection, ModelSection
from moeprof.training.balance import tune_gates, update_bias
from moeprof.training.gate_watch import GateWatch
from moeprof.training.mini_model import build_model

MODEL = ModelSection(
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    num_experts=8,
    top_k=1,
    expert_size=8,
    initial_deviation=0.3,
)


def test_the_full_expert_is_lowered_and_the_idle_ones_are_raised() -> None:
    bias = torch.zeros(2, 4)

    update_bias(bias, [collapsed(6, 4), spread_surely(4)], speed=0.5)

    assert bias.tolist() == [[-0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]]


def test_biases_even_the_load_and_leave_weights_alone() -> None:
    model = build_model(MODEL, num_window_tokens=64, seed=0)
    bias = tune_gates(model, GateSection(bias_update_speed=0.005))
    assert bias is not None
    tokens = torch.randint(0, 256, (8, 64), generator=torch.Generator().manual_seed(0))
    with GateWatch(model) as watch, torch.no_grad():
        model(input_ids=tokens)
        before = torch.stack([each.load_fractions() for each in watch.answers()])
        for _ in range(60):
            model(input_ids=tokens)
            update_bias(bias, watch.answers(), speed=0.005)
        after = torch.stack([each.load_fractions() for each in watch.answers()])
        answer = watch.answers()[0]

    assert before.amax(-1).min() > 0.2
    assert after.amax(-1).max() < 0.18
    routing = find_gates(model)[0].rule.choose(answer.logits)
    plain = answer.logits.argmax(-1, keepdim=True)
    assert not torch.equal(routing.experts, plain)
    unbiased = answer.probabilities.gather(-1, routing.experts)
    assert torch.allclose(routing.weights, unbiased, rtol=1e-5)


def test_without_a_bias_or_a_temperature_the_gates_are_the_models_own() -> None:
    model = build_model(MODEL, num_window_tokens=64, seed=0)
    own = type(find_gates(model)[0].gate)

    assert tune_gates(model, GateSection()) is None
    assert type(find_gates(model)[0].gate) is own
