from __future__ import annotations

import pytest
import torch
from tiny_models import FAMILIES, NUM_EXPERTS, TOP_K, tiny_model
from torch import nn

from moeprof.errors import CheckpointError
from moeprof.gate import families
from moeprof.gate.site import find_gates


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_gates_are_found_in_layer_order(family: str) -> None:
    model = tiny_model(family)

    sites = find_gates(model)

    dense = {"deepseek-v3": [1]}  # its first layer is dense
    assert [site.layer for site in sites] == dense.get(family, [0, 1])
    for site in sites:
        layer = model.get_submodule(f"model.layers.{site.layer}")
        assert site.family == family
        assert site.block is layer.mlp
        assert any(child is site.gate for child in site.block.children())
        assert (site.rule.num_experts, site.rule.top_k) == (NUM_EXPERTS, TOP_K)


def test_layers_beyond_the_ninth_come_in_the_order_of_numbers() -> None:
    gate = find_gates(tiny_model("mixtral"))[0].gate
    model = nn.ModuleDict({"layers": nn.ModuleDict({"10": nn.Sequential(), "9": nn.Sequential()})})
    model.get_submodule("layers.10").gate = gate
    model.get_submodule("layers.9").gate = find_gates(tiny_model("mixtral"))[1].gate

    assert [site.layer for site in find_gates(model)] == [9, 10]


def test_a_gate_of_its_own_is_a_model_too() -> None:
    gate = find_gates(tiny_model("gpt-oss"))[0].gate

    (site,) = find_gates(gate)

    assert (site.layer, site.gate, site.block) == (0, gate, gate)


def test_a_subclass_of_a_known_gate_is_known() -> None:
    gate = find_gates(tiny_model("olmoe"))[0].gate
    gate.__class__ = type("MyRouter", (type(gate),), {})

    assert find_gates(nn.ModuleList([gate]))[0].family == "olmoe"


def test_a_model_without_gates_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match=r"model Linear: .* found none") as caught:
        find_gates(nn.Linear(2, 2))

    assert "mixtral, qwen2-moe, qwen3-moe, olmoe, deepseek-v3, gpt-oss" in str(caught.value.hint)


def test_gates_of_two_families_in_one_model_are_refused() -> None:
    both = nn.ModuleList([tiny_model("olmoe"), tiny_model("mixtral")])

    with pytest.raises(CheckpointError, match="found gates of mixtral and olmoe"):
        find_gates(both)


@pytest.mark.parametrize("top_k", [0, NUM_EXPERTS + 1])
def test_a_gate_that_takes_more_experts_than_it_has_is_refused(top_k: int) -> None:
    model = tiny_model("mixtral")
    find_gates(model)[1].gate.top_k = top_k

    with pytest.raises(CheckpointError, match=f"layer 1: its top_k must lie in 1..8, got {top_k}"):
        find_gates(model)


def test_a_gate_of_an_older_transformers_is_refused_with_what_it_lacks() -> None:
    model = tiny_model("deepseek-v3")
    del find_gates(model)[0].gate.num_group

    with pytest.raises(CheckpointError, match=r"must have num_group, as in transformers 5"):
        find_gates(model)


@pytest.mark.parametrize("found", ["4.57.1", "5.0.0", "5.12.1"])
def test_a_transformers_whose_gates_work_otherwise_is_refused(
    found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("mixtral")
    monkeypatch.setattr(families, "version", lambda name: found)

    with pytest.raises(CheckpointError, match=f"must be at least 5.13, found {found}") as caught:
        find_gates(model)

    assert "moeprof[hf]" in str(caught.value.hint)


@pytest.mark.parametrize("found", ["5.13.0", "5.100.0.dev0", "6.0.0rc1"])
def test_a_newer_transformers_is_not_refused(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "version", lambda name: found)

    assert len(find_gates(tiny_model("mixtral"))) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_of_any_shape_of_hidden_states(family: str) -> None:
    site = find_gates(tiny_model(family, torch.bfloat16))[0]
    states = torch.randn(3, 5, 32, dtype=torch.bfloat16)

    logits = site.logits(states)

    assert logits.shape == (15, NUM_EXPERTS)
    assert logits.dtype == (torch.float32 if family == "deepseek-v3" else torch.bfloat16)
