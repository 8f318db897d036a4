from __future__ import annotations

import json

import pytest
import torch
from tiny_models import FAMILIES, NUM_EXPERTS, tiny_model

from moeprof.errors import TraceError
from moeprof.gate.description import describe, rule_of
from moeprof.gate.site import find_gates
from moeprof.gate.steering import tune


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_rule_that_went_through_a_file_decides_the_same(family: str, *, tuned: bool) -> None:
    model = tiny_model(family)
    if tuned:
        bias = torch.randn(len(find_gates(model)), NUM_EXPERTS) / 3
        tune(model, softmax_temperature=1.7, selection_bias=bias)
    rule = find_gates(model)[-1].rule
    logits = torch.randn(500, NUM_EXPERTS)

    again = rule_of(json.loads(json.dumps(describe(rule))))

    assert type(again) is type(rule)
    assert describe(again) == describe(rule)
    assert torch.equal(again.choose(logits).experts, rule.choose(logits).experts)
    assert torch.equal(again.choose(logits).weights, rule.choose(logits).weights)


SOFTMAX = {
    "rule": "softmax",
    "num_experts": 4,
    "top_k": 2,
    "renormalised": True,
    "float32_weights": False,
    "softmax_temperature": None,
    "selection_bias": None,
}
GROUPED = {
    "rule": "grouped-sigmoid",
    "num_experts": 4,
    "top_k": 2,
    "num_groups": 2,
    "num_groups_used": 1,
    "renormalised": True,
    "scaling_factor": 2.5,
    "correction_bias": [0.0] * 4,
    "softmax_temperature": None,
    "selection_bias": None,
}


@pytest.mark.parametrize(
    ("description", "fault"),
    [
        (SOFTMAX | {"rule": "hash"}, "gate rule: .*hash"),
        ({}, "gate rule: "),
        (SOFTMAX | {"top_k": 5}, "top_k must be at most 4, got 5"),
        (SOFTMAX | {"top_k": "2"}, "top_k: .* got '2'"),
        (SOFTMAX | {"seed": 1}, r"seed: .* got 1"),
        (SOFTMAX | {"softmax_temperature": 0.0}, "softmax_temperature: .* got 0.0"),
        (SOFTMAX | {"softmax_temperature": float("nan")}, "softmax_temperature: .* got nan"),
        (SOFTMAX | {"selection_bias": [0.0] * 3}, "selection_bias must have 4 values, got 3"),
        (GROUPED | {"correction_bias": [0.0]}, "correction_bias must have 4 values, got 1"),
        (GROUPED | {"num_groups": 3}, "num_groups must divide 4 experts .* got 3"),
        (GROUPED | {"num_groups": 4}, "num_groups must divide 4 experts .* got 4"),
        (GROUPED | {"num_groups_used": 3}, "num_groups_used must be at most 2, got 3"),
    ],
)
def test_an_impossible_description_is_refused_with_the_key(
    description: dict[str, object], fault: str
) -> None:
    rule_of(SOFTMAX)
    rule_of(GROUPED)

    with pytest.raises(TraceError, match=fault):
        rule_of(description)
