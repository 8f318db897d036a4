"""What experts are worth to a batch: golden values, and the definition in plain Python."""

from __future__ import annotations

import pytest
import torch

from moeprof.gate.grouped_sigmoid import GroupedSigmoidRule
from moeprof.gate.softmax import SoftmaxRule
from moeprof.router.marginal.buffers import Buffers
from moeprof.router.marginal.worth import WHOLE, Worth, candidate_scores, worth_of

SOFTMAX = SoftmaxRule(10, 3, renormalised=True, float32_weights=True)
DEEPSEEK = GroupedSigmoidRule(
    10,
    3,
    5,
    2,
    renormalised=True,
    scaling_factor=2.5,
    correction_bias=torch.linspace(-0.2, 0.3, 10),
)


def worth(
    logits: torch.Tensor,
    rule: SoftmaxRule | GroupedSigmoidRule,
    num_candidates: int,
    protected: int,
) -> Worth:
    judged, buffers = rule.judge(logits, num_candidates), Buffers(logits.device)
    return worth_of(judged, candidate_scores(judged, buffers), protected, buffers)


def test_by_hand() -> None:
    # Top 2: token 0 has 0 and 1, token 1 has 3 and 0. Token 0's next, 2, nobody uses; 3 it may use.
    # Without 0 it loses (0.5 - 0.1) / 0.75, without 1 (0.25 - 0.1) / 0.75. Token 1's next is 1:
    # without 3 it loses (0.6 - 0.1) / 0.8, without 0 (0.2 - 0.1) / 0.8.
    probabilities = torch.tensor([[0.5, 0.25, 0.15, 0.1], [0.2, 0.1, 0.1, 0.6]])
    probabilities[1, 2] = 0.0999
    rule = SoftmaxRule(4, 2, renormalised=True, float32_weights=True)
    found = worth(probabilities.log(), rule, 4, 1)

    shares = found.loss.double() / WHOLE
    expected = torch.tensor([0.4 / 0.75 + 0.1 / 0.8, 0.15 / 0.75, 0.0, 0.5 / 0.8]).double()
    torch.testing.assert_close(shares, expected, rtol=1e-3, atol=0)
    assert found.rows.tolist() == [2, 1, 0, 1]
    assert found.is_used.tolist() == [True, True, False, True]
    assert found.is_protected.tolist() == [True, False, False, True]


@pytest.mark.parametrize("rule", [SOFTMAX, DEEPSEEK], ids=["softmax", "deepseek"])
@pytest.mark.parametrize("num_tokens", [1, 2, 9])
@pytest.mark.parametrize("num_candidates", [3, 5, 10])
@pytest.mark.parametrize("num_protected", [0, 1, 3])
def test_worth_is_its_definition(
    rule: SoftmaxRule | GroupedSigmoidRule,
    num_tokens: int,
    num_candidates: int,
    num_protected: int,
) -> None:
    logits = torch.randn(num_tokens, 10, generator=torch.Generator().manual_seed(3))
    scores, preferences = rule.scores(logits).tolist(), rule.preferences(logits).tolist()
    ranked = [sorted(range(10), key=lambda e, row=row: -row[e]) for row in preferences]
    used = {expert for order in ranked for expert in order[:3]}
    losses, rows, protected = [0] * 10, [0] * 10, [False] * 10
    for score, liked, order in zip(scores, preferences, ranked, strict=True):
        others = [
            score[e] for e in order[3:num_candidates] if e in used and liked[e] > float("-inf")
        ]
        mass = sum(score[e] for e in order[:3])
        for slot, expert in enumerate(order[:3]):
            losses[expert] += max(score[expert] - max(others, default=0.0), 0.0) / mass * WHOLE
            rows[expert] += 1
            protected[expert] |= slot < num_protected

    found = worth(logits, rule, num_candidates, num_protected)

    # A float32 has 24 bits, of which a share loses a few.
    assert found.loss.tolist() == pytest.approx(losses, rel=1e-5, abs=WHOLE * 1e-6 * num_tokens)
    assert found.rows.tolist() == rows
    if num_protected == 0:
        greatest = sorted(used, key=lambda e: (-found.loss[e].item(), e))[:3]
        protected = [expert in greatest for expert in range(10)]
    assert found.is_protected.tolist() == protected


def test_the_order_of_tokens_changes_nothing_bit_for_bit() -> None:
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(4))
    order = torch.randperm(200, generator=torch.Generator().manual_seed(5))
    plain, mixed = (worth(each, SOFTMAX, 8, 1) for each in (logits, logits[order]))

    assert torch.equal(plain.loss, mixed.loss)


def test_a_token_that_is_no_number_is_worth_nothing_to_its_experts() -> None:
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(4))
    logits[7] = float("nan")
    without = worth(torch.cat([logits[:7], logits[8:]]), SOFTMAX, 8, 0)
    found = worth(logits, SOFTMAX, 8, 0)

    assert without.is_used.all()
    assert torch.equal(found.loss, without.loss)
