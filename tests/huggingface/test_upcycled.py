from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP

from moeprof.errors import CheckpointError
from moeprof.gate.site import find_gates
from moeprof.huggingface.upcycled import UpcycledExperts, UpcycledGate, UpcycledMoE, build_upcycled

CONFIG: dict[str, Any] = {
    "vocab_size": 256, "n_positions": 64, "n_embd": 16, "n_layer": 3, "n_head": 2,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
SETTINGS: dict[str, object] = {"layers": [0, 2], "num_experts": 4, "top_k": 2}


def experts_with_random_weights(num_experts: int) -> UpcycledExperts:
    experts = UpcycledExperts(
        num_experts=num_experts, hidden_dim=6, intermediate_dim=10, activation=functional.gelu
    )
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    return experts


def one_token_at_a_time(
    module: UpcycledExperts, hidden: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    rows = []
    for token, row in enumerate(hidden):
        total = torch.zeros_like(row)
        for expert, weight in zip(experts[token].tolist(), weights[token], strict=True):
            inner = functional.gelu(row @ module.up_weight[expert] + module.up_bias[expert])
            total += weight * (inner @ module.down_weight[expert] + module.down_bias[expert])
        rows.append(total)
    return torch.stack(rows)


def test_experts_are_summed_by_weight_whichever_are_active() -> None:
    torch.manual_seed(0)
    module = experts_with_random_weights(5)
    hidden = torch.randn(11, 6)
    # Expert 3 is chosen by nobody, and the last slot of the first token is not used.
    experts = torch.tensor([[0, 1], [4, 2], [2, 1], [0, 4]]).repeat(3, 1)[:11]
    weights = torch.rand(11, 2)
    experts[0, 1], weights[0, 1] = experts[0, 0], 0.0

    torch.testing.assert_close(
        module(hidden, experts, weights), one_token_at_a_time(module, hidden, experts, weights)
    )


def test_gradients_reach_weights_and_active_experts_and_no_other() -> None:
    torch.manual_seed(0)
    module = experts_with_random_weights(4)
    hidden, weights = torch.randn(5, 6, requires_grad=True), torch.rand(5, 2, requires_grad=True)
    experts = torch.tensor([[0, 2]]).repeat(5, 1)
    fast = torch.autograd.grad(
        module(hidden, experts, weights).square().sum(), (hidden, weights, *module.parameters())
    )
    slow = torch.autograd.grad(
        one_token_at_a_time(module, hidden, experts, weights).square().sum(),
        (hidden, weights, *module.parameters()),
    )

    for found, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    used = fast[2].flatten(1).abs().sum(-1) > 0
    assert used.tolist() == [True, False, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gate_and_its_rule_choose_the_same_bits(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build_upcycled(GPT2Config(**CONFIG), SETTINGS).to(dtype)
    site = find_gates(model)[0]
    assert isinstance(site.gate, UpcycledGate)
    torch.nn.init.normal_(site.gate.weight)
    hidden = torch.randn(2, 50, 16, dtype=dtype)
    logits, weights, experts = site.gate(hidden)
    ruled = site.rule.choose(logits)

    assert torch.equal(site.logits(hidden), logits)
    assert torch.equal(ruled.experts, experts)
    assert torch.equal(ruled.weights, weights)
    assert weights.dtype == logits.dtype == dtype


def test_only_the_layers_asked_for_are_built_anew() -> None:
    model: Any = build_upcycled(GPT2Config(**CONFIG), SETTINGS)

    assert [type(layer.mlp) for layer in model.transformer.h] == [
        UpcycledMoE,
        GPT2MLP,
        UpcycledMoE,
    ]
    assert [(site.layer, site.family) for site in find_gates(model)] == [
        (0, "upcycled"),
        (2, "upcycled"),
    ]
    assert not model.training
    assert not any(module.training for module in model.modules())


def test_a_block_works_in_bfloat16_with_weights_in_float32() -> None:
    module = experts_with_random_weights(4).to(torch.bfloat16)
    hidden = torch.randn(5, 6, dtype=torch.bfloat16)
    output = module(hidden, torch.tensor([[0, 2]] * 5), torch.full((5, 2), 0.5))

    assert output.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"layers": [7]}, r"upcycled\.layers: must lie in 0\.\.2"),
        ({"top_k": 9}, r"upcycled\.top_k: .*must be at most num_experts 4"),
        ({"experts": 4}, r"upcycled\.experts: "),
    ],
)
def test_damaged_settings_are_refused_by_key(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        build_upcycled(GPT2Config(**CONFIG), SETTINGS | wrong)
