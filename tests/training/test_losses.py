"""Each auxiliary loss on examples worked by hand, at its least and at its greatest."""

from __future__ import annotations

import math

import pytest
import torch
from training.examples import answer, collapsed, spread_surely

from moeprof.recipe.training import LossSection
from moeprof.training.losses import LOSSES, auxiliary, switch

NUM_EXPERTS = 8
LN_E = math.log(NUM_EXPERTS)

# One token with probabilities 1/2, 1/4, 1/4 and one with 1/4, 1/2, 1/4: mean 3/8, 3/8, 1/4; each
# expert but the last has one of the two tokens.
HAND = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))
BY_HAND = {
    "switch": 3 * (0.5 * 0.375 + 0.5 * 0.375),
    "deviation": math.sqrt((2 * 0.125**2 + 0.25**2) / 3),
    "entropy": math.log(3) - 1.5 * math.log(2),
    "kl-uniform": 2 * 0.375 * math.log(1.125) + 0.25 * math.log(0.75),
    "z-loss": 0.0,
}
UNIFORM = {"switch": 1.0, "deviation": 0.0, "entropy": 0.0, "kl-uniform": 0.0, "z-loss": LN_E**2}
COLLAPSED = {
    "switch": NUM_EXPERTS,
    "deviation": math.sqrt(NUM_EXPERTS - 1),
    "entropy": LN_E,
    "kl-uniform": LN_E,
    "z-loss": 200.0**2,
}
# A sure token is the worst for the entropy alone: the load is as even as it can be.
SPREAD_SURELY = {
    "switch": 1.0,
    "deviation": 0.0,
    "entropy": LN_E,
    "kl-uniform": 0.0,
    "z-loss": 400.0**2,
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_what_the_hand_worked_example_gives(name: str) -> None:
    assert LOSSES[name](answer(HAND)).item() == pytest.approx(BY_HAND[name], abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_at_uniform_probabilities(name: str) -> None:
    uniform = answer(torch.zeros(5, NUM_EXPERTS))

    assert LOSSES[name](uniform).item() == pytest.approx(UNIFORM[name], abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_where_all_tokens_go_to_one_expert(name: str) -> None:
    found = LOSSES[name](collapsed(5, NUM_EXPERTS)).item()

    assert found == pytest.approx(COLLAPSED[name], rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_where_every_expert_surely_has_one_token(name: str) -> None:
    found = LOSSES[name](spread_surely(NUM_EXPERTS)).item()

    assert found == pytest.approx(SPREAD_SURELY[name], abs=1e-5)


@pytest.mark.parametrize("name", ["switch", "deviation", "kl-uniform"])
def test_a_step_down_a_balancing_loss_evens_the_probabilities(name: str) -> None:
    torch.manual_seed(0)
    logits = (torch.randn(64, NUM_EXPERTS) + torch.linspace(0, 2, NUM_EXPERTS)).requires_grad_()
    LOSSES[name](answer(logits, top_k=2)).backward()

    after = (logits - 10 * logits.grad).softmax(-1).mean(0)
    before = logits.softmax(-1).mean(0)
    assert after.std() < before.std()


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_finite_at_uniform_and_at_collapse(name: str) -> None:
    for start in (torch.zeros(5, NUM_EXPERTS), collapsed(5, NUM_EXPERTS).logits):
        logits = start.clone().requires_grad_()
        LOSSES[name](answer(logits)).backward()

        assert torch.isfinite(logits.grad).all()


def test_the_load_of_the_switch_loss_counts_every_slot() -> None:
    # Experts 0 and 1 have half of the slots each, and a probability of 3/8 on average.
    assert switch(answer(HAND, top_k=2)).item() == pytest.approx(3 * 0.375)


def test_a_loss_counts_its_weight_times_its_mean_over_layers() -> None:
    layers = [answer(torch.zeros(5, NUM_EXPERTS)), collapsed(5, NUM_EXPERTS)]

    found = auxiliary(layers, [LossSection(name="switch", weight=0.1)])

    assert found["switch"].item() == pytest.approx(0.1 * (1 + NUM_EXPERTS) / 2)
