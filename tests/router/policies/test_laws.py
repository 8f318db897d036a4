"""What holds of every router, whatever it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from moeprof.errors import WorkloadError
from moeprof.gate.grouped_sigmoid import GroupedSigmoidRule
from moeprof.gate.softmax import SoftmaxRule
from moeprof.gate.top_logits import TopLogitsRule
from moeprof.router import RoutingContext, load_router, router_names
from moeprof.router.answer import fault_of
from moeprof.router.marginal.conditions import Conditions
from moeprof.workload.placement import Placement

if TYPE_CHECKING:
    from moeprof.gate.rule import GateRule, Routing

NUM_EXPERTS, TOP_K, LAYER = 12, 4, 3
FAMILIES: dict[str, tuple[GateRule, torch.dtype]] = {
    "mixtral": (SoftmaxRule(12, 4, renormalised=True, float32_weights=True), torch.float32),
    "qwen3": (SoftmaxRule(12, 4, renormalised=True, float32_weights=False), torch.bfloat16),
    "olmoe": (SoftmaxRule(12, 4, renormalised=False, float32_weights=False), torch.bfloat16),
    "deepseek": (
        GroupedSigmoidRule(
            12, 4, 3, 2, renormalised=True, scaling_factor=2.5,
            correction_bias=torch.linspace(-0.2, 0.3, 12),
        ),
        torch.float32,
    ),
    "gpt-oss": (TopLogitsRule(12, 4), torch.bfloat16),
}  # fmt: skip


def symmetric() -> torch.Tensor:
    matrix = torch.rand(NUM_EXPERTS, NUM_EXPERTS, generator=torch.Generator().manual_seed(5))
    return (matrix + matrix.T) / 2


COSTS = torch.rand(NUM_EXPERTS, generator=torch.Generator().manual_seed(6)) + 0.1
BUSY: dict[str, dict[str, Any]] = {
    "random": {},
    "oea": {"base_k": 1},
    "lynx": {"num_experts_kept": 3, "bin_width_nats": 0.5},
    "xshare": {"num_experts_kept": 3},
    "laser": {"peaked_fraction": 0.8, "viable_fraction": 0.2, "num_rounds": 5},
    "capacity-drop": {"capacity_factor": 0.7},
    "capacity-expanded": {"capacity_factor": 0.9, "num_extra_candidates": 3},
    "sere": {"num_primary": 1, "similarities": {LAYER: symmetric()}},
    "logit-penalty": {"penalty_nats": 1.5, "costs": COSTS},
    "marginal-cost": {"lambda_": 0.5},
}
"""Every router with knobs that make it do much."""
NEUTRAL: dict[str, dict[str, Any]] = {
    "oea": {"base_k": TOP_K},
    "lynx": {"num_experts_kept": NUM_EXPERTS},
    "xshare": {"num_experts_kept": NUM_EXPERTS},
    "laser": {"peaked_fraction": 0.0},
    "capacity-drop": {"capacity_factor": NUM_EXPERTS / TOP_K},
    "capacity-expanded": {"capacity_factor": NUM_EXPERTS / TOP_K},
    "sere": {"num_primary": TOP_K, "similarities": {LAYER: symmetric()}},
    "logit-penalty": {"penalty_nats": 0.0, "costs": COSTS},
    "marginal-cost": {"lambda_": 0.0},
}


def logits_of(num_tokens: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    # A trend makes some experts popular, so that there is something to share and to drop.
    popular = torch.linspace(1.5, -1.5, NUM_EXPERTS)
    return (torch.randn(num_tokens, NUM_EXPERTS, generator=generator) + popular).to(dtype)


def routed(name: str, knobs: dict[str, Any], logits: torch.Tensor, rule: GateRule) -> Routing:
    return load_router(name, **knobs).route(logits, RoutingContext(LAYER, rule))


families = pytest.mark.parametrize("family", FAMILIES)
busy = pytest.mark.parametrize("name", BUSY)


def test_every_router_of_this_package_is_held_to_the_laws() -> None:
    published = [
        name
        for name in router_names()
        if type(load_router(name)).__module__.startswith("moeprof.router.policies.")
    ]

    assert set(BUSY) == {*published, "marginal-cost"}


@families
@busy
@pytest.mark.parametrize("num_tokens", [0, 1, 2, 40])
def test_an_answer_is_shaped_as_the_models_own(name: str, family: str, num_tokens: int) -> None:
    rule, dtype = FAMILIES[family]
    logits = logits_of(num_tokens, dtype)
    plain = rule.choose(logits)

    routing = routed(name, BUSY[name], logits, rule)

    assert fault_of(routing, logits) is None
    assert routing.experts.shape == plain.experts.shape
    assert routing.weights.dtype == plain.weights.dtype


@families
@busy
def test_slots_that_count_name_different_experts_and_the_others_repeat_one(
    name: str, family: str
) -> None:
    rule, dtype = FAMILIES[family]
    logits = logits_of(40, dtype)

    routing = routed(name, BUSY[name], logits, rule)

    wholly_dropped = 0
    for experts, weights in zip(routing.experts.tolist(), routing.weights.tolist(), strict=True):
        counting = [e for e, weight in zip(experts, weights, strict=True) if weight > 0]
        assert len(counting) == len(set(counting))
        wholly_dropped += not counting
        if counting:
            assert set(experts) == set(counting)
        else:
            assert len(set(experts)) == 1
    assert wholly_dropped == 0 or name == "capacity-drop"


@families
@busy
def test_forbidden_experts_are_never_chosen(name: str, family: str) -> None:
    rule, dtype = FAMILIES[family]
    # No expert is popular here, so that tokens want, and are forbidden, different ones; batches are
    # small, so that much of what one token uses is new to the others.
    drawn = torch.randn(90, NUM_EXPERTS, generator=torch.Generator().manual_seed(2)).to(dtype)
    for logits in drawn.split(3):
        routing = routed(name, BUSY[name], logits, rule)

        assert (rule.preferences(logits).gather(1, routing.experts) > float("-inf")).all()


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("random", {}),
        ("laser", {"peaked_fraction": 1.0, "viable_fraction": 0.0}),
        ("logit-penalty", {"penalty_nats": 9.0, "costs": COSTS}),
    ],
)
def test_routers_that_never_drop_fill_all_slots_within_the_groups(
    name: str, knobs: dict[str, Any]
) -> None:
    rule, dtype = FAMILIES["deepseek"]
    logits = torch.randn(60, NUM_EXPERTS, generator=torch.Generator().manual_seed(2)).to(dtype)

    routing = routed(name, knobs, logits, rule)

    assert (routing.weights > 0).all()


@families
@pytest.mark.parametrize("name", [name for name in BUSY if name != "sere"])
def test_weights_are_those_the_model_gives_the_experts_that_are_used(
    name: str, family: str
) -> None:
    rule, dtype = FAMILIES[family]
    logits = logits_of(40, dtype)

    routing = routed(name, BUSY[name], logits, rule)

    for row, experts, weights in zip(logits, routing.experts, routing.weights, strict=True):
        counting = weights > 0
        if counting.any():
            expected = rule.weights(row[None], experts[counting][None])[0]
            tolerance = 0.01 if dtype == torch.bfloat16 else 1e-6
            torch.testing.assert_close(
                weights[counting].float(), expected.float(), rtol=tolerance, atol=0.0
            )


@families
@pytest.mark.parametrize("name", NEUTRAL)
def test_the_neutral_knob_is_plain_top_k_bit_for_bit(name: str, family: str) -> None:
    rule, dtype = FAMILIES[family]
    # Coarse logits have many ties, which must be broken as the model breaks them.
    logits = (logits_of(300, torch.float32) * 2).round().div(2).to(dtype)
    plain = rule.choose(logits)

    for knobs in (NEUTRAL[name], {}):
        routing = routed(name, knobs, logits, rule)

        assert torch.equal(routing.experts, plain.experts)
        assert torch.equal(routing.weights, plain.weights)


@pytest.mark.parametrize("name", NEUTRAL)
def test_the_busy_knobs_do_change_something(name: str) -> None:
    rule, dtype = FAMILIES["mixtral"]
    logits = logits_of(40, dtype)

    routing = routed(name, BUSY[name], logits, rule)

    assert not torch.equal(routing.weights, rule.choose(logits).weights)


@pytest.mark.parametrize("name", [name for name in BUSY if name != "random"])
def test_experts_renamed_are_the_answer_renamed(name: str) -> None:
    rule, _ = FAMILIES["mixtral"]
    logits = logits_of(40, torch.float32)
    order = torch.randperm(NUM_EXPERTS, generator=torch.Generator().manual_seed(1))
    knobs = dict(BUSY[name])
    if name == "sere":
        knobs["similarities"] = {LAYER: symmetric()[order][:, order]}
    if name == "logit-penalty":
        knobs["costs"] = COSTS[order]

    before = routed(name, BUSY[name], logits, rule)
    after = routed(name, knobs, logits[:, order], rule)

    assert torch.equal(order[after.experts], before.experts)
    torch.testing.assert_close(after.weights, before.weights)


@busy
def test_the_same_logits_get_the_same_answer(name: str) -> None:
    rule, dtype = FAMILIES["deepseek"]
    logits = logits_of(40, dtype)

    first, second = (routed(name, BUSY[name], logits, rule) for _ in range(2))

    assert torch.equal(first.experts, second.experts)
    assert torch.equal(first.weights, second.weights)


@families
@busy
def test_no_value_is_ever_asked_for(name: str, family: str) -> None:
    # Fake tensors have shapes and no values: what needs one, as .item() does, raises. A GPU would
    # have to be waited for there, and no CUDA graph could be captured.
    rule, dtype = FAMILIES[family]
    router = load_router(name, **BUSY[name])
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        logits = fake.from_tensor(logits_of(40, dtype))

        routing = router.route(logits, RoutingContext(LAYER, rule))

        assert routing.experts.shape == (40, TOP_K)


@families
def test_marginal_cost_routing_asks_for_no_value_of_the_gpus_either(family: str) -> None:
    rule, dtype = FAMILIES[family]
    # Of this test alone: tensors of a placement are kept, and here they are fake ones.
    placement = Placement(f"fake {family}", ((0, 1, 2, 3, 8), (4, 5, 6, 7, 0), (8, 9, 10, 11, 4)))
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        conditions = Conditions.of(0.5, 3)
        router = load_router("marginal-cost", energy_fraction=0.3, conditions=conditions)
        logits = fake.from_tensor(logits_of(40, dtype))

        routing = router.route(logits, RoutingContext(LAYER, rule, placement))

        assert routing.experts.shape == (40, TOP_K)


@pytest.mark.parametrize(
    "name", ["random", "oea", "laser", "capacity-drop", "sere", "marginal-cost"]
)
def test_logits_that_are_not_numbers_are_not_hidden(name: str) -> None:
    rule, _ = FAMILIES["mixtral"]
    logits = logits_of(40, torch.float32)
    logits[7] = float("nan")

    routing = routed(name, BUSY[name], logits, rule)

    assert routing.weights[7].isnan().any()
    assert 0 <= int(routing.experts.min()) <= int(routing.experts.max()) < NUM_EXPERTS


@pytest.mark.parametrize(
    ("name", "knobs", "fault"),
    [
        ("oea", {"base_k": 0}, "router oea: base_k must be at least 1, got 0"),
        ("oea", {"base_k": 2.0}, "router oea: base_k must be a whole number, got 2.0"),
        ("oea", {"base_k": True}, "router oea: base_k must be a whole number, got True"),
        ("lynx", {"num_experts_kept": 0}, "router lynx: num_experts_kept must be at least 1"),
        ("lynx", {"bin_width_nats": 0.0}, "router lynx: bin_width_nats must be at least 1e-06"),
        ("lynx", {"num_bins": 1}, "router lynx: num_bins must be at least 2, got 1"),
        ("xshare", {"num_experts_kept": -1}, "router xshare: num_experts_kept must be at least 1"),
        ("xshare", {"num_protected": -1}, "router xshare: num_protected must be at least 0"),
        ("laser", {"peaked_fraction": 1.5}, r"laser: peaked_fraction must lie in 0.0..1.0, got"),
        ("laser", {"viable_fraction": float("nan")}, "laser: viable_fraction must lie in .* nan"),
        ("laser", {"num_rounds": 0}, "router laser: num_rounds must be at least 1, got 0"),
        ("capacity-drop", {"capacity_factor": -1.0}, "capacity-drop: capacity_factor must be at"),
        ("capacity-drop", {"capacity_factor": float("nan")}, "capacity_factor must be .* nan"),
        ("capacity-expanded", {"capacity_factor": -1.0}, "capacity-expanded: capacity_factor must"),
        ("capacity-expanded", {"num_extra_candidates": -1}, "num_extra_candidates must be at"),
        ("sere", {"num_primary": 0}, "router sere: num_primary must be at least 1, got 0"),
        ("sere", {"similarity_threshold": float("nan")}, "sere: similarity_threshold must .* nan"),
        ("sere", {"similarities": {4: torch.zeros(2, 3)}}, r"layer 4 must be .*got \[2, 3\]"),
        ("sere", {"similarities": {4: torch.full((2, 2), float("nan"))}}, "layer 4 .* got NaN"),
        ("logit-penalty", {"penalty_nats": -0.1}, "logit-penalty: penalty_nats must lie in"),
        ("logit-penalty", {"penalty_nats": float("inf")}, "penalty_nats must lie in .* got inf"),
        ("logit-penalty", {"costs": torch.zeros(3)}, "costs must be finite and at least 0"),
        ("logit-penalty", {"costs": torch.tensor([1.0, -1.0])}, "costs must be finite and at"),
        ("logit-penalty", {"costs": torch.ones(2, 2)}, r"costs must be \[num_experts\], got"),
    ],
)
def test_a_knob_out_of_range_is_refused_with_its_router(
    name: str, knobs: dict[str, Any], fault: str
) -> None:
    with pytest.raises(WorkloadError, match=fault):
        load_router(name, **knobs)


@pytest.mark.parametrize(
    ("name", "knobs", "fault"),
    [
        ("oea", {"base_k": 5}, r"router oea: base_k must lie in 1..4, got 5"),
        ("lynx", {"num_experts_kept": 13}, r"num_experts_kept must lie in 1..12, got 13"),
        ("xshare", {"num_experts_kept": 13}, r"num_experts_kept must lie in 1..12, got 13"),
        ("xshare", {"num_protected": 5}, r"num_protected must lie in 0..4, got 5"),
        ("sere", {"num_primary": 5}, r"num_primary must lie in 1..4, got 5"),
        ("sere", {"num_primary": 1}, "similarities must be given for layer 3, got layers"),
        ("sere", {"num_primary": 1, "similarities": {3: torch.eye(2)}}, "must be of 12 experts"),
        ("logit-penalty", {"costs": torch.ones(2)}, "costs must be of 12 experts, got 2"),
    ],
)
def test_a_knob_that_does_not_fit_the_model_is_refused(
    name: str, knobs: dict[str, Any], fault: str
) -> None:
    rule, dtype = FAMILIES["mixtral"]

    with pytest.raises(WorkloadError, match=fault):
        routed(name, knobs, logits_of(4, dtype), rule)
