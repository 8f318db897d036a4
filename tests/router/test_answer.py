from __future__ import annotations

from typing import Any

import pytest
import torch

from moeprof.gate.rule import Routing
from moeprof.router.answer import fault_of

LOGITS = torch.randn(3, 4)
EXPERTS = torch.tensor([[0, 1], [2, 3], [1, 2]])
WEIGHTS = torch.full((3, 2), 0.5)


def test_an_answer_as_it_should_be_has_no_fault() -> None:
    assert fault_of(Routing(EXPERTS, WEIGHTS), LOGITS) is None
    assert fault_of(Routing(EXPERTS[:0], WEIGHTS[:0]), LOGITS[:0]) is None


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (None, "must answer with a Routing, got NoneType"),
        ((EXPERTS, WEIGHTS), "must answer with a Routing, got tuple"),
        (Routing(EXPERTS.tolist(), WEIGHTS), "experts must be a tensor, got list"),
        (Routing(EXPERTS, 0.5), "weights must be a tensor, got float"),
        (Routing(EXPERTS.to("meta"), WEIGHTS), "experts must be on cpu, got meta"),
        (Routing(EXPERTS.int(), WEIGHTS), "experts must be int64, got torch.int32"),
        (Routing(EXPERTS, WEIGHTS.long()), "weights must be floating, got torch.int64"),
        (Routing(EXPERTS[:2], WEIGHTS[:2]), "experts must be [3, k], got [2, 2]"),
        (Routing(EXPERTS[0], WEIGHTS[0]), "experts must be [3, k], got [2]"),
        (Routing(EXPERTS[:, :0], WEIGHTS[:, :0]), "must have 1..4 slots for each token, got 0"),
        (
            Routing(EXPERTS.repeat(1, 3), WEIGHTS.repeat(1, 3)),
            "must have 1..4 slots for each token, got 6",
        ),
        (Routing(EXPERTS, WEIGHTS[:, :1]), "weights must be [3, 2] as experts are, got [3, 1]"),
        (Routing(EXPERTS + 1, WEIGHTS), "experts must lie in 0..3, got 4"),
        (Routing(EXPERTS - 1, WEIGHTS), "experts must lie in 0..3, got -1"),
        (Routing(EXPERTS, WEIGHTS * torch.nan), "weights must be finite, got NaN or infinity"),
        (Routing(EXPERTS, WEIGHTS * torch.inf), "weights must be finite, got NaN or infinity"),
    ],
)
def test_an_unusable_answer_is_named(answer: Any, fault: str) -> None:
    found = fault_of(answer, LOGITS)

    assert found is not None
    assert fault in found


def test_a_model_whose_logits_are_no_numbers_is_not_blamed_on_the_router() -> None:
    assert fault_of(Routing(EXPERTS, WEIGHTS * torch.nan), LOGITS * torch.nan) is None


def test_values_are_not_looked_at_where_a_device_would_have_to_be_waited_for() -> None:
    answer = Routing((EXPERTS + 9).to("meta"), WEIGHTS.to("meta"))

    assert fault_of(answer, LOGITS.to("meta")) is None
