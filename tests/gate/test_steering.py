from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import NUM_EXPERTS, tiny_model, tokens
from torch import nn

from moeprof.errors import CheckpointError
from moeprof.gate.site import find_gates
from moeprof.gate.steering import chooser_of, steer, tune


def test_a_gate_given_back_is_as_it_was() -> None:
    (gate, _) = (site.gate for site in find_gates(tiny_model("mixtral")))
    own, held = type(gate), dict(vars(gate))

    steer(gate, lambda logits, rule: rule.choose(logits))
    assert isinstance(gate, own)
    assert type(gate) is not own
    steer(gate, None)

    assert type(gate) is own
    assert vars(gate) == held


def test_tuning_stays_when_a_chooser_goes_and_goes_when_taken_away() -> None:
    model = tiny_model("qwen3-moe")
    gate = find_gates(model)[0].gate
    own = type(gate)
    ids = tokens(1, 20)
    plain = model(ids).logits

    tune(model, softmax_temperature=3.0)
    tuned = model(ids).logits
    steer(gate, lambda logits, rule: rule.choose(logits))
    steer(gate, None)

    assert not torch.equal(tuned, plain)
    assert chooser_of(gate) is None
    assert torch.equal(model(ids).logits, tuned)

    tune(model)

    assert type(gate) is own
    assert torch.equal(model(ids).logits, plain)


def test_neither_tuning_nor_a_chooser_is_in_a_checkpoint() -> None:
    model = tiny_model("qwen3-moe")
    keys = set(model.state_dict())

    tune(model, selection_bias=torch.zeros(2, NUM_EXPERTS))
    steer(find_gates(model)[0].gate, lambda logits, rule: rule.choose(logits))

    assert set(model.state_dict()) == keys


def test_a_copy_has_its_own_bias() -> None:
    model = tiny_model("olmoe")
    bias = torch.zeros(2, NUM_EXPERTS)
    tune(model, selection_bias=bias)
    other = copy.deepcopy(model)
    ids = tokens(1, 20)
    before = other(ids).logits

    bias[:, 0] = 5.0

    assert torch.equal(other(ids).logits, before)
    assert not torch.equal(model(ids).logits, before)


def test_a_forward_replaced_on_the_module_is_refused_not_ignored() -> None:
    model = tiny_model("mixtral")
    first, second = (site.gate for site in find_gates(model))
    second.forward = second.forward

    for change in (
        lambda: steer(second, lambda logits, rule: rule.choose(logits)),
        lambda: tune(model, softmax_temperature=2.0),
    ):
        with pytest.raises(CheckpointError, match="forward was replaced on the module"):
            change()

    assert type(first).__name__ == "MixtralTopKRouter"


def test_a_gate_whose_forward_was_replaced_later_can_still_be_given_back() -> None:
    model = tiny_model("mixtral")
    gate = find_gates(model)[1].gate
    own = type(gate)
    tune(model, softmax_temperature=2.0)
    steer(gate, lambda logits, rule: rule.choose(logits))
    gate.forward = gate.forward

    steer(gate, None)
    tune(model)

    assert type(gate) is own


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_an_impossible_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(CheckpointError, match="softmax_temperature must be above 0"):
        tune(tiny_model("mixtral"), softmax_temperature=temperature)


def test_a_bias_of_another_shape_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"must be \[2, 8\] \(gates, experts\), got \[8\]"):
        tune(tiny_model("mixtral"), selection_bias=torch.zeros(NUM_EXPERTS))


def test_a_model_without_gates_cannot_be_tuned() -> None:
    with pytest.raises(CheckpointError, match="found none"):
        tune(nn.Linear(2, 2), softmax_temperature=2.0)
