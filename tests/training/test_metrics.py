"""The numbers that show a collapse, on routings whose numbers are plain."""

from __future__ import annotations

import math

import pytest
import torch
from training.examples import answer, collapsed, spread_surely

from moeprof.training.metrics import routing_metrics


def test_a_collapsed_layer_beside_an_even_one() -> None:
    found = routing_metrics([collapsed(8, 8), spread_surely(8)])

    assert found.diversity_fractions == (0.125, 1.0)
    assert found.step_diversity_fractions == (0.125, 1.0)
    assert found.load_imbalances == (8.0, 1.0)
    assert found.entropies_nats == pytest.approx((0.0, 0.0), abs=1e-6)
    assert found.load_fractions[0] == (1.0, *[0.0] * 7)


def test_a_step_has_sixteen_neighbouring_tokens() -> None:
    # 16 tokens to expert 0, then 16 to expert 1; the last 8 make no step.
    logits = torch.zeros(40, 4)
    logits[:16, 0], logits[16:32, 1], logits[32:, 2] = 9.0, 9.0, 9.0

    found = routing_metrics([answer(logits)])

    assert found.step_diversity_fractions == (0.25,)
    assert found.diversity_fractions == (0.75,)
    assert found.load_imbalances == pytest.approx((16 / 10,))


def test_a_uniform_token_has_the_greatest_entropy() -> None:
    found = routing_metrics([answer(torch.zeros(4, 8))])

    assert found.entropies_nats == pytest.approx((math.log(8),))
