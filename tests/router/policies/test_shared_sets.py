"""OEA, XShare and Lynx: a set of experts for the batch, and every token's best of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from moeprof.gate.grouped_sigmoid import GroupedSigmoidRule
from moeprof.gate.rule import Routing

Route = Callable[..., Routing]
Used = Callable[[Routing], list[list[int]]]
Draw = Callable[..., torch.Tensor]

SIZES = [(1, 4, 1), (1, 5, 3), (3, 6, 2), (8, 9, 3), (16, 12, 4)]
cases = pytest.mark.parametrize("seed", range(5))
sizes = pytest.mark.parametrize(("num_tokens", "num_experts", "top_k"), SIZES)


def ranked(row: list[float]) -> list[int]:
    return sorted(range(len(row)), key=lambda expert: -row[expert])


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(logit) for logit in row]
    return [power / sum(powers) for power in powers]


def best_of(rows: list[list[float]], allowed: list[set[int]], top_k: int) -> list[list[int]]:
    return [
        sorted([expert for expert in ranked(row) if expert in some][:top_k])
        for row, some in zip(rows, allowed, strict=True)
    ]


def test_oea_by_hand(route: Route, used: Used) -> None:
    # Best experts are 0, 1, 1: the base. Token 0 would have {0, 2}, token 1 {1, 3}, token 2 {1, 0}:
    # each now has {0, 1}. Token 0's weights are 0.5 and 0.1 over 0.6.
    probabilities = torch.tensor(
        [[0.5, 0.1, 0.3, 0.1], [0.1, 0.5, 0.15, 0.25], [0.3, 0.4, 0.2, 0.1]]
    )

    routing = route("oea", probabilities.log(), base_k=1)

    assert used(routing) == [[0, 1], [0, 1], [0, 1]]
    assert routing.experts[0].tolist() == [0, 1]
    torch.testing.assert_close(routing.weights[0], torch.tensor([5 / 6, 1 / 6]))


def test_oea_leaves_slots_empty_where_the_base_is_smaller_than_k(route: Route, used: Used) -> None:
    routing = route("oea", torch.tensor([[3.0, 1.0, 2.0, 0.0]]), top_k=3, base_k=2)

    assert used(routing) == [[0, 2]]
    assert routing.experts.tolist() == [[0, 2, 0]]
    torch.testing.assert_close(routing.weights.sum(), torch.tensor(1.0))


@cases
@sizes
def test_oea_is_the_papers_two_phases(
    route: Route, used: Used, draw: Draw, seed: int, num_tokens: int, num_experts: int, top_k: int
) -> None:
    logits = draw(seed, num_tokens, num_experts)
    rows = logits.tolist()
    for base_k in range(1, top_k + 1):
        base = {expert for row in rows for expert in ranked(row)[:base_k]}

        routing = route("oea", logits, top_k=top_k, base_k=base_k)

        assert used(routing) == best_of(rows, [base] * num_tokens, top_k)
        active = {expert for experts in used(routing) for expert in experts}
        assert active == base


def test_xshare_by_hand(route: Route, used: Used) -> None:
    # Mass: 0.7, 1.0, 0.6, 0.7 of experts 0 to 3. Unprotected, two stay: 1 and, of the equal 0 and
    # 3, the lower. Protected are 0, 1 and 2, so that these three stay, more than the two asked for.
    probabilities = torch.tensor(
        [[0.5, 0.25, 0.0625, 0.1875], [0.125, 0.5, 0.0625, 0.3125], [0.0625, 0.25, 0.5, 0.1875]]
    )
    logits = probabilities.log()

    free = route("xshare", logits, num_experts_kept=2, num_protected=0)
    protected = route("xshare", logits, num_experts_kept=2)

    assert used(free) == [[0, 1], [0, 1], [0, 1]]
    assert used(protected) == [[0, 1], [0, 1], [1, 2]]


@cases
@sizes
def test_xshare_keeps_the_set_of_most_gate_mass(
    route: Route, used: Used, draw: Draw, seed: int, num_tokens: int, num_experts: int, top_k: int
) -> None:
    logits = draw(seed, num_tokens, num_experts)
    rows = logits.tolist()
    mass = [sum(softmax(row)[expert] for row in rows) for expert in range(num_experts)]
    for num_kept in range(1, num_experts + 1):
        for num_protected in (0, 1):
            kept = {expert for row in rows for expert in ranked(row)[:num_protected]}
            kept |= set([e for e in ranked(mass) if e not in kept][: max(0, num_kept - len(kept))])

            routing = route(
                "xshare",
                logits,
                top_k=top_k,
                num_experts_kept=num_kept,
                num_protected=num_protected,
            )

            assert used(routing) == best_of(rows, [kept] * num_tokens, top_k)


def test_lynx_by_hand(route: Route, used: Used) -> None:
    # Bins of width 1, tokens count for 3 ** bin. Token 0 chooses 0 (bin 0) and 1 (gap 0.5: bin -1),
    # token 1 chooses 1 (bin 0) and 2 (gap 2.5: -3), token 2 chooses 3 (bin 0) and 1 (gap 0.2: -1).
    # Scores: expert 0 has 1, expert 1 has 1 + 2/3, expert 2 has 1/27, expert 3 has 1. Two stay: 1,
    # and 0 before 3. Token 2 gives up 3 for 0; its own best is no more than a bin ahead.
    logits = torch.tensor([[2.0, 1.5, 0.0, -1.0], [-1.0, 3.0, 0.5, 0.0], [1.0, 1.8, 0.0, 2.0]])

    routing = route("lynx", logits, num_experts_kept=2, num_bins=6)

    assert used(routing) == [[0, 1], [0, 1], [0, 1]]


def test_lynx_never_takes_its_best_expert_from_a_confident_token(route: Route, used: Used) -> None:
    # One expert stays: 0, of three first choices. Expert 3 is wanted by the last token only, whose
    # next best is 9 nats less, further than six bins of width 1 reach.
    logits = torch.tensor([[9.0, 8.5, 0.0, 0.0]] * 3 + [[0.0, -1.0, -2.0, 9.0]])

    routing = route("lynx", logits, num_experts_kept=1)

    assert used(routing) == [[0], [0], [0], [0, 3]]


@cases
@sizes
def test_lynx_keeps_the_experts_of_confident_tokens(
    route: Route, used: Used, draw: Draw, seed: int, num_tokens: int, num_experts: int, top_k: int
) -> None:
    logits = draw(seed, num_tokens, num_experts)
    rows, num_bins = logits.double().tolist(), 4

    def bin_of(row: list[float], expert: int) -> int:
        return max(1 - num_bins, math.floor((row[expert] - max(row)) / 0.75))

    votes = [0.0] * num_experts
    for row in rows:
        for expert in ranked(row)[:top_k]:
            votes[expert] += max(2, num_tokens) ** bin_of(row, expert)
    for num_kept in range(1, num_experts + 1):
        kept = set(ranked(votes)[:num_kept])
        allowed = [
            kept | ({ranked(row)[0]} if bin_of(row, ranked(row)[1]) == 1 - num_bins else set())
            for row in rows
        ]

        routing = route(
            "lynx",
            logits,
            top_k=top_k,
            num_experts_kept=num_kept,
            bin_width_nats=0.75,
            num_bins=num_bins,
        )

        assert used(routing) == best_of(rows, allowed, top_k)


@pytest.mark.parametrize("name", ["lynx", "xshare"])
def test_a_token_whose_groups_hold_no_kept_expert_has_its_best_one(
    route: Route, used: Used, name: str
) -> None:
    # Experts 0 and 1 are one group, 2 and 3 the other; the batch keeps one expert, 0, which is
    # forbidden to the last token. Its own two are near each other, so that it is not confident.
    rule = GroupedSigmoidRule(
        4, 2, 2, 1, renormalised=True, scaling_factor=1.0, correction_bias=torch.zeros(4)
    )
    logits = torch.tensor([[2.0, 1.0, -3.0, -3.0]] * 2 + [[-3.0, -3.0, 0.6, 1.0]])
    knobs = {"num_protected": 0} if name == "xshare" else {}

    routing = route(name, logits, rule=rule, num_experts_kept=1, **knobs)

    assert used(routing) == [[0], [0], [3]]
    torch.testing.assert_close(routing.weights[:, 0], torch.ones(3))


def test_gate_mass_that_a_family_forbids_counts_for_nothing(route: Route, used: Used) -> None:
    # By sigmoids expert 0 has most, 3 x 0.73; but the first two tokens may not use its group. Then
    # 2 has most, 0.711 + 0.690 to the 0.690 + 0.701 of 3, and the second token must take it too.
    rule = GroupedSigmoidRule(
        4, 1, 2, 1, renormalised=True, scaling_factor=1.0, correction_bias=torch.zeros(4)
    )
    logits = torch.tensor([[1.0, 0.0, 0.9, 0.8], [1.0, 0.0, 0.8, 0.85], [1.0, 0.0, -3.0, -3.0]])

    routing = route("xshare", logits, rule=rule, num_experts_kept=1, num_protected=0)

    assert used(routing) == [[2], [2], [0]]
