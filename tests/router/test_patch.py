from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_models import FAMILIES, NUM_EXPERTS, TOP_K, tiny_model, tokens
from torch import nn

from moeprof.errors import CheckpointError, WorkloadError
from moeprof.gate.site import find_gates
from moeprof.router import (
    GpuReading,
    Routing,
    RoutingContext,
    Telemetry,
    TopK,
    patch,
    patch_forever,
    unpatch,
)
from moeprof.workload.placement import place

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = (torch.float32, torch.bfloat16)


class FirstExperts:
    """Gives every token the first experts, and keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[RoutingContext] = []

    def route(self, logits: torch.Tensor, context: RoutingContext) -> Routing:
        self.seen.append(context)
        experts = torch.arange(TOP_K, device=logits.device).repeat(len(logits), 1)
        return Routing(experts, context.rule.weights(logits, experts))


class Answers:
    """Answers with whatever it was given to answer with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def route(self, logits: torch.Tensor, context: RoutingContext) -> Any:
        return self.answer(logits, context)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_with_top_k_ten_thousand_tokens_come_out_bit_for_bit_as_unpatched(
    family: str, dtype: torch.dtype
) -> None:
    model = tiny_model(family, dtype)
    ids = tokens(num_requests=40, num_tokens=250)
    chosen: list[torch.Tensor] = []
    watch = find_gates(model)[-1].gate.register_forward_hook(
        lambda _gate, _inputs, answer: chosen.append(answer[2])
    )

    with torch.inference_mode():
        plain = model(ids, use_cache=False).logits
        with patch(model, TopK()):
            patched = model(ids, use_cache=False).logits
        with patch(model, FirstExperts()):
            other = model(ids, use_cache=False).logits
    watch.remove()

    assert plain.isfinite().all()
    assert torch.equal(patched, plain)
    assert not torch.equal(other, plain)
    assert torch.equal(chosen[0], chosen[1])
    assert len(chosen[0].unique(dim=0)) > 5  # tokens differ in their experts
    assert len(chosen[2].unique(dim=0)) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_flow_through_a_patched_gate_as_through_its_own(family: str) -> None:
    ids = tokens(2, 40)
    gradients = []
    for patched in (False, True):
        model = tiny_model(family).train()
        if patched:
            patch_forever(model, TopK())
        model(ids, labels=ids).loss.backward()
        gradients.append([value.grad for value in model.parameters()])

    plain, routed = gradients
    gate = find_gates(tiny_model(family))[0].gate.weight.shape
    assert any(each is not None and each.shape == gate and each.abs().sum() > 0 for each in plain)
    for ours, theirs in zip(routed, plain, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"deepseek-v3"}))
def test_recorded_router_logits_are_those_of_the_patched_gates(family: str) -> None:
    model = tiny_model(family)
    ids = tokens(2, 30)
    plain = model(ids, output_router_logits=True)

    with patch(model, TopK()):
        patched = model(ids, output_router_logits=True)

    assert len(plain.router_logits) == len(patched.router_logits) == 2
    for ours, theirs in zip(patched.router_logits, plain.router_logits, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(patched.aux_loss, plain.aux_loss)


def test_router_logits_are_recorded_where_the_model_was_patched_before_it_first_ran() -> None:
    model = tiny_model("mixtral")
    patch_forever(model, TopK())

    assert len(model(tokens(1, 5), output_router_logits=True).router_logits) == 2


def test_generation_with_a_cache_is_unchanged() -> None:
    model = tiny_model("qwen3-moe")
    ids = tokens(1, 5)
    arguments = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(ids, **arguments)

    with patch(model, TopK()):
        assert torch.equal(model.generate(ids, **arguments), plain)


def test_a_router_is_shown_the_layer_its_rule_and_what_it_was_given() -> None:
    model = tiny_model("deepseek-v3")
    router = FirstExperts()
    placement = place("contiguous", num_experts=NUM_EXPERTS, num_ranks=2, seed=0)
    telemetry = Telemetry((GpuReading(rank=1, die_celsius=60.0),))
    cost: Any = object()

    with patch(model, router, placement=placement, cost=cost, telemetry=telemetry):
        model(tokens(1, 3))

    (context,) = router.seen
    assert context.layer == 1
    assert context.rule.num_experts == NUM_EXPERTS
    assert context.placement is placement
    assert context.telemetry is telemetry
    assert context.cost is cost


def test_telemetry_that_is_a_function_is_asked_at_every_layer() -> None:
    model = tiny_model("mixtral")
    router = FirstExperts()
    readings = iter([Telemetry((GpuReading(0),)), None])

    with patch(model, router, telemetry=lambda: next(readings)):
        model(tokens(1, 3))

    assert [context.telemetry for context in router.seen] == [Telemetry((GpuReading(0),)), None]


def test_an_inner_patch_replaces_and_leaving_it_restores_the_outer() -> None:
    model = tiny_model("olmoe")
    ids = tokens(1, 20)
    plain = model(ids).logits

    with patch(model, FirstExperts()):
        outer = model(ids).logits
        with patch(model, TopK()):
            assert torch.equal(model(ids).logits, plain)
        assert torch.equal(model(ids).logits, outer)

    assert not torch.equal(outer, plain)
    assert torch.equal(model(ids).logits, plain)


def test_an_error_inside_the_block_leaves_the_model_unpatched() -> None:
    model = tiny_model("mixtral")
    own = [type(module) for module in model.modules()]

    with pytest.raises(KeyError), patch(model, FirstExperts()):
        raise KeyError("anything")

    assert [type(module) for module in model.modules()] == own


def test_a_model_that_was_never_patched_is_left_alone_whatever_its_gates_are() -> None:
    model = tiny_model("mixtral")
    gate = find_gates(model)[0].gate
    gate.forward = gate.forward  # so that it could not be patched
    own = [type(module) for module in model.modules()]

    unpatch(model)

    assert [type(module) for module in model.modules()] == own


def test_the_permanent_form_lasts_until_unpatch() -> None:
    model = tiny_model("gpt-oss")
    own = [type(module) for module in model.modules()]
    ids = tokens(1, 20)
    plain = model(ids).logits

    patch_forever(model, FirstExperts())
    patched = model(ids).logits
    with patch(model, TopK()):
        assert torch.equal(model(ids).logits, plain)
    assert torch.equal(model(ids).logits, patched)
    unpatch(model)
    unpatch(model)

    assert not torch.equal(patched, plain)
    assert torch.equal(model(ids).logits, plain)
    assert [type(module) for module in model.modules()] == own


def test_a_copy_of_a_patched_model_is_patched_by_the_same_router() -> None:
    model = tiny_model("mixtral")
    router = FirstExperts()
    ids = tokens(1, 10)

    with patch(model, router):
        other = copy.deepcopy(model)
    router.seen.clear()
    patched = other(ids).logits

    assert len(router.seen) == 2
    assert not torch.equal(patched, model(ids).logits)
    assert len(router.seen) == 2
    unpatch(other)
    assert torch.equal(other(ids).logits, model(ids).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_patched_model_is_saved_as_an_unpatched_one(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    keys = list(model.state_dict())
    model.save_pretrained(tmp_path / "plain")

    with patch(model, FirstExperts()):
        assert list(model.state_dict()) == keys
        model.save_pretrained(tmp_path / "patched")

    names = sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert sorted(path.name for path in (tmp_path / "patched").iterdir()) == names
    for name in names:
        patched = (tmp_path / "patched" / name).read_bytes()
        assert patched == (tmp_path / "plain" / name).read_bytes(), name


def test_hooks_of_a_gate_go_on_working() -> None:
    model = tiny_model("mixtral")
    seen: list[tuple[torch.Tensor, ...]] = []
    site = find_gates(model)[0]
    site.gate.register_forward_hook(lambda _gate, _inputs, answer: seen.append(answer))

    with patch(model, FirstExperts()):
        model(tokens(1, 7))

    (logits, weights, experts) = seen[0]
    assert logits.shape == (7, NUM_EXPERTS)
    assert torch.equal(experts, torch.arange(TOP_K).repeat(7, 1))
    assert torch.equal(weights, site.rule.weights(logits, experts))


def test_a_model_without_gates_cannot_be_patched() -> None:
    model = nn.Linear(2, 2)

    for change in (lambda: patch(model, TopK()).__enter__(), lambda: patch_forever(model, TopK())):
        with pytest.raises(CheckpointError, match="model Linear: must have the gates"):
            change()


@pytest.mark.parametrize("num_experts", [NUM_EXPERTS - 1, NUM_EXPERTS + 1])
def test_a_placement_of_another_number_of_experts_is_refused_before_anything_changes(
    num_experts: int,
) -> None:
    model = tiny_model("mixtral")
    own = [type(module) for module in model.modules()]
    placement = place("round-robin", num_experts=num_experts, num_ranks=2, seed=0)

    with (
        pytest.raises(WorkloadError, match=f"must hold the 8 experts .* got {num_experts} experts"),
        patch(model, TopK(), placement=placement),
    ):
        pass

    assert [type(module) for module in model.modules()] == own


@pytest.mark.parametrize("router", [TopK, "top-k", None])
def test_what_is_no_router_is_refused(router: Any) -> None:
    with pytest.raises(WorkloadError, match="must have a method route"):
        patch_forever(tiny_model("mixtral"), router)


def test_more_experts_than_the_model_uses_may_be_answered() -> None:
    model = tiny_model("mixtral")

    def all_of_them(logits: torch.Tensor, context: RoutingContext) -> Routing:
        experts = torch.arange(NUM_EXPERTS).repeat(len(logits), 1)
        return Routing(experts, context.rule.weights(logits, experts))

    with patch(model, Answers(all_of_them)):
        assert model(tokens(1, 5)).logits.isfinite().all()


def test_an_unusable_answer_is_an_error_that_names_router_and_layer() -> None:
    model = tiny_model("deepseek-v3")

    with (
        patch(model, Answers(lambda logits, _: logits)),
        pytest.raises(WorkloadError, match="router Answers, layer 1: must answer with a Routing"),
    ):
        model(tokens(1, 5))


def test_a_patched_model_compiles_to_the_same_function() -> None:
    model = tiny_model("qwen3-moe")
    patch_forever(model, TopK())
    block = find_gates(model)[0].gate
    states = torch.randn(6, 32)
    expected = block(states)

    compiled = torch.compile(block, backend="eager", fullgraph=True)(states)

    for ours, theirs in zip(compiled, expected, strict=True):
        assert torch.equal(ours, theirs)
