"""Claims about the shape of one MoE layer."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from moeprof.errors import WorkloadError
from moeprof.workload.layer import MoELayer

VALID = MoELayer("tiny", hidden_size=64, expert_size=96, num_experts=8, top_k=2)


def test_an_expert_has_three_projections() -> None:
    assert VALID.weights_per_expert == 3 * 64 * 96


def test_shared_weights_count_every_shared_expert() -> None:
    layer = dataclasses.replace(VALID, num_shared_experts=2, shared_expert_size=32)

    assert layer.shared_weights == 2 * 3 * 64 * 32


def test_a_layer_without_shared_experts_has_no_shared_weights() -> None:
    assert VALID.shared_weights == 0


def test_the_gate_has_a_weight_per_hidden_element_and_expert() -> None:
    assert VALID.gate_weights == 64 * 8


def test_top_k_may_be_every_expert() -> None:
    assert dataclasses.replace(VALID, top_k=8).top_k == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"top_k": 0}, "top_k must lie in 1..8, got 0"),
        ({"top_k": 9}, "top_k must lie in 1..8, got 9"),
        ({"hidden_size": 0}, "hidden_size must be at least 1, got 0"),
        ({"expert_size": -1}, "expert_size must be at least 1, got -1"),
        ({"num_experts": 0}, "num_experts must be at least 1, got 0"),
        ({"num_shared_experts": -1}, "num_shared_experts must be at least 0, got -1"),
        ({"num_shared_experts": 1}, "must come together, got 1 and None"),
        ({"shared_expert_size": 96}, "must come together, got 0 and 96"),
        ({"num_shared_experts": 1, "shared_expert_size": 0}, "shared_expert_size must be at least"),
    ],
)
def test_an_impossible_layer_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkloadError) as refused:
        dataclasses.replace(VALID, **change)

    assert said in refused.value.message
    assert "layer 'tiny'" in refused.value.message
    assert refused.value.hint is not None
