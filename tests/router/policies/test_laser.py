from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from moeprof.gate.rule import Routing

Route = Callable[..., Routing]
Used = Callable[[Routing], list[list[int]]]
Draw = Callable[..., torch.Tensor]


def one_after_the_other(
    rows: list[list[float]], top_k: int, peaked: float, viable: float
) -> list[list[int]]:
    load = [0] * len(rows[0])
    answers: list[list[int] | None] = []
    for row in rows:
        powers = [math.exp(logit) for logit in row]
        best = sorted(range(len(row)), key=lambda expert: -row[expert])
        if sum(powers[expert] for expert in best[:top_k]) / sum(powers) >= peaked:
            answers.append(sorted(best[:top_k]))
            for expert in best[:top_k]:
                load[expert] += 1
        else:
            answers.append(None)
    for index, row in enumerate(rows):
        if answers[index] is None:
            best = sorted(range(len(row)), key=lambda expert: -row[expert])
            good = [e for e in best if math.exp(row[e] - row[best[0]]) >= viable]
            good += best[len(good) : top_k]
            served = sorted(good, key=lambda expert: load[expert])[:top_k]
            for expert in served:
                load[expert] += 1
            answers[index] = sorted(served)
    return [answer for answer in answers if answer is not None]


def test_laser_by_hand(route: Route, used: Used) -> None:
    # Tokens 0 and 1 are sure of expert 0. Token 2 has experts 0, 1 and 2 within half its best: 0
    # has two rows, so it takes 1, the better of the two idle ones; token 3 then takes 2.
    probabilities = torch.tensor([[0.91, 0.03, 0.03, 0.03]] * 2 + [[0.4, 0.3, 0.25, 0.05]] * 2)

    routing = route(
        "laser",
        probabilities.log(),
        top_k=1,
        peaked_fraction=0.8,
        viable_fraction=0.5,
        num_rounds=4,
    )

    assert used(routing) == [[0], [0], [1], [2]]


def test_tokens_of_one_round_do_not_see_each_other(route: Route, used: Used) -> None:
    probabilities = torch.tensor([[0.91, 0.03, 0.03, 0.03]] * 2 + [[0.4, 0.3, 0.25, 0.05]] * 2)

    routing = route("laser", probabilities.log(), top_k=1, peaked_fraction=0.8, num_rounds=1)

    assert used(routing) == [[0], [0], [1], [1]]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("peaked", "viable"), [(0.7, 0.3), (1.0, 0.0), (0.5, 1.0)])
def test_as_many_rounds_as_tokens_is_one_token_after_the_other(
    route: Route, used: Used, draw: Draw, seed: int, peaked: float, viable: float
) -> None:
    logits = draw(seed, 15, 8)

    routing = route(
        "laser",
        logits,
        top_k=3,
        peaked_fraction=peaked,
        viable_fraction=viable,
        num_rounds=15,
    )

    assert used(routing) == one_after_the_other(logits.tolist(), 3, peaked, viable)


@pytest.mark.parametrize("num_rounds", [1, 3, 8, 64])
def test_the_heaviest_expert_has_less_to_do(route: Route, draw: Draw, num_rounds: int) -> None:
    logits = draw(0, 64, 16) / 4 + torch.linspace(1, 0, 16)

    plain = route("top-k", logits, top_k=4)
    routing = route(
        "laser",
        logits,
        top_k=4,
        peaked_fraction=0.9,
        viable_fraction=0.3,
        num_rounds=num_rounds,
    )

    heaviest = [int(answer.experts.flatten().bincount().max()) for answer in (plain, routing)]
    if num_rounds > 1:
        assert heaviest[1] < heaviest[0]
