from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from moeprof.errors import RecipeError
from moeprof.gate.rule import Routing
from moeprof.gate.site import find_gates
from moeprof.huggingface.extra import quiet
from moeprof.huggingface.load import load_model
from moeprof.huggingface.manifest import Manifest, write_manifest
from moeprof.recipe.upcycling import UpcycleSection
from moeprof.router.patch import patch
from moeprof.router.top_k import TopK
from moeprof.training.upcycle import upcycle

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.router.protocol import RoutingContext


def dense_model(**others: Any) -> Any:
    sizes: dict[str, Any] = {
        "vocab_size": 256, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4,
        "bos_token_id": None, "eos_token_id": None, "initializer_range": 0.3,
    }  # fmt: skip
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**(sizes | others))).eval()
    # Biases start at 0 and would hide one that is forgotten.
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def tokens() -> torch.Tensor:
    return torch.randint(256, (4, 64), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits_of(model: Any) -> torch.Tensor:
    return model(input_ids=tokens()).logits


@pytest.mark.parametrize(
    "settings",
    [
        UpcycleSection(),
        UpcycleSection(layers=[1], num_experts=5, top_k=3),
        UpcycleSection(layers=[0, 2], num_experts=4, top_k=1),
        UpcycleSection(num_experts=3, top_k=3),
    ],
)
@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_upcycling_keeps_the_function(settings: UpcycleSection, activation: str) -> None:
    model = dense_model(activation_function=activation)
    before = logits_of(model)
    after = logits_of(upcycle(model, settings))

    assert torch.linalg.norm(after - before) <= 1e-5 * torch.linalg.norm(before)


def test_the_function_is_kept_whichever_experts_a_router_takes() -> None:
    class Last:
        def route(self, logits: torch.Tensor, context: RoutingContext) -> Routing:
            experts = torch.tensor([[7, 5]]).expand(len(logits), -1)
            return Routing(experts, context.rule.weights(logits, experts))

    model = dense_model()
    before = logits_of(model)
    with patch(upcycle(model, UpcycleSection()), Last()):
        after = logits_of(model)

    assert torch.linalg.norm(after - before) <= 1e-5 * torch.linalg.norm(before)


def test_noise_makes_experts_differ_by_the_fraction_asked_for() -> None:
    model = dense_model()
    original = model.transformer.h[1].mlp.c_fc.weight.detach().clone()
    upcycle(model, UpcycleSection(noise_fraction=0.25))
    noise = model.transformer.h[1].mlp.experts.up_weight.detach() - original

    assert (noise.std() / original.std()).item() == pytest.approx(0.25, rel=0.02)
    assert torch.corrcoef(noise.flatten(1)).triu(1).abs().max() < 0.1


def test_gates_start_random_and_as_small_as_the_models_own_weights() -> None:
    model = upcycle(dense_model(initializer_range=0.05), UpcycleSection(num_experts=64))
    weights = torch.cat([site.gate.weight.detach().flatten() for site in find_gates(model)])

    assert weights.std().item() == pytest.approx(0.05, rel=0.05)
    assert abs(weights.mean().item()) < 0.005


def test_the_seed_decides_and_leaves_the_callers_random_numbers_alone() -> None:
    dense = dense_model()
    torch.manual_seed(5)
    first, again, other = (
        upcycle(copy.deepcopy(dense), UpcycleSection(seed=seed, noise_fraction=0.1)).state_dict()
        for seed in (1, 1, 2)
    )
    drawn = torch.rand(1)
    torch.manual_seed(5)

    assert all(torch.equal(first[name], again[name]) for name in first)
    gate, matrix = "transformer.h.0.mlp.gate.weight", "transformer.h.0.mlp.experts.up_weight"
    assert not torch.equal(first[gate], other[gate])
    assert not torch.equal(first[matrix], other[matrix])
    assert torch.equal(drawn, torch.rand(1))


def test_an_impossible_layer_changes_nothing() -> None:
    model = dense_model()
    names = set(model.state_dict())

    with pytest.raises(RecipeError, match=r"upcycle\.layers: must lie in 0\.\.2"):
        upcycle(model, UpcycleSection(layers=[0, 3]))
    assert set(model.state_dict()) == names


def test_dropout_is_the_dense_blocks() -> None:
    model = dense_model(resid_pdrop=0.5)
    block = upcycle(model.train(), UpcycleSection()).transformer.h[0].mlp

    assert block.training
    assert block(torch.randn(1, 64, 32)).eq(0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert not block.eval()(torch.randn(1, 64, 32)).eq(0).any()


def test_blocks_have_the_dtype_of_what_they_replace() -> None:
    model = upcycle(dense_model().to(torch.bfloat16), UpcycleSection())

    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert logits_of(model).isfinite().all()


def test_an_upcycled_model_learns_and_its_experts_part() -> None:
    model = upcycle(dense_model(initializer_range=0.05), UpcycleSection(num_experts=4)).train()
    gates = [site.gate.weight.detach().clone() for site in find_gates(model)]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = model(input_ids=tokens(), labels=tokens()).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())

    assert losses[-1] < 0.95 * losses[0]
    for site, before in zip(find_gates(model), gates, strict=True):
        assert not torch.equal(site.gate.weight, before)
        first, *others = site.block.experts.up_weight
        assert all(not torch.equal(first, other) for other in others)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_patched_with_top_k_its_logits_are_the_same_bits(dtype: torch.dtype) -> None:
    model = upcycle(dense_model(), UpcycleSection(noise_fraction=0.5)).to(dtype)
    before = logits_of(model)
    with patch(model, TopK()):
        patched = logits_of(model)

    assert torch.equal(patched, before)


def test_a_saved_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    settings = UpcycleSection(layers=[0, 2], num_experts=4, noise_fraction=0.1, seed=3)
    model: Any = upcycle(dense_model(), settings)
    with quiet():
        model.save_pretrained(tmp_path)
    write_manifest(tmp_path, Manifest(tokens="bytes", upcycled=settings.model_dump(mode="json")))
    loaded = load_model(tmp_path)

    assert loaded.family == "upcycled"
    assert torch.equal(logits_of(loaded.model), logits_of(model))
    assert loaded.model.lm_head.weight is loaded.model.transformer.wte.weight
