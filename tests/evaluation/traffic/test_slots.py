"""Claims about which token stands in which slot."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.evaluation.traffic.slots import (
    draw_slots,
    generator,
    num_steps_profiled,
    numbers,
    rows_of_steps,
    split,
)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    num_requests=st.integers(1, 9),
    batch_size=st.integers(1, 6),
    context_tokens=st.integers(0, 5),
    num_steps=st.integers(1, 40),
)
def test_every_slot_walks_through_requests_token_by_token(
    seed: int, num_requests: int, batch_size: int, context_tokens: int, num_steps: int
) -> None:
    lengths = context_tokens + generator(seed, 7).integers(1, 12, num_requests)

    slots = draw_slots(
        lengths,
        context_tokens=context_tokens,
        num_steps=num_steps,
        batch_size=batch_size,
        random=generator(seed, 8),
    )

    assert slots.requests.shape == slots.positions.shape == (num_steps, batch_size)
    for slot in range(batch_size):
        walk = list(zip(slots.requests[:, slot], slots.positions[:, slot], strict=True))
        assert all(context_tokens <= position < lengths[request] for request, position in walk)
        for (request, position), (later, at) in pairwise(walk):
            goes_on = position + 1 < lengths[request]
            assert (later, at) == (request, position + 1) if goes_on else at == context_tokens
    if num_requests >= batch_size:
        assert all(len(set(step)) == batch_size for step in slots.requests.tolist())


def test_slots_begin_anywhere_behind_the_context() -> None:
    slots = draw_slots(
        np.full(500, 20), context_tokens=4, num_steps=1, batch_size=400, random=generator(1)
    )

    assert set(slots.positions[0].tolist()) == set(range(4, 20))


@pytest.mark.parametrize("num_requests", [2, 3, 4, 56, 224])
def test_a_fourth_of_the_requests_is_kept_for_balancers(num_requests: int) -> None:
    simulated, reserved = split(num_requests, seed=3)

    assert sorted([*simulated, *reserved]) == list(range(num_requests))
    assert len(reserved) == max(1, num_requests // 4)
    assert (split(num_requests, seed=3)[0] == simulated).all()
    assert any(split(224, seed=3)[1] != split(224, seed=4)[1])


def test_no_two_seeds_share_a_number() -> None:
    found = numbers(np.array([[[0, 7]], [[7, 2**31 - 1]]]))

    assert len(np.unique(found)) == 4
    assert (found[0] == [[0, 7]]).all()


def test_random_numbers_follow_from_seed_and_purpose_a_negative_seed_too() -> None:
    assert generator(-1, 2).random() == generator(-1, 2).random()
    assert len({generator(*words).random() for words in ((0, 1), (0, 2), (1, 1), (-1, 1))}) == 4


def test_rows_are_counted_by_step_layer_and_expert() -> None:
    first = np.array([[0, 1], [1, 2], [0, 2]])
    second = np.array([[2, 1], [2, 1], [2, 0]])

    rows = rows_of_steps([first, second], np.array([[0, 1], [2, 2]]), 3)

    assert rows.tolist() == [[[1, 2, 1], [0, 2, 2]], [[2, 0, 2], [2, 0, 2]]]


def test_a_balancer_sees_some_4096_tokens_in_16_batches_or_more() -> None:
    assert [num_steps_profiled(size) for size in (1, 16, 256, 4096)] == [4096, 256, 16, 16]
