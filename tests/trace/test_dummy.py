"""Claims about dummy passes, on passes whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from trace_examples import choose

from moeprof.trace.dummy import dummy_passes, pass_sign
from moeprof.trace.importers.choices import counts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SHAPES = [(4, 2, 2), (8, 2, 2), (8, 2, 32), (32, 4, 8), (64, 8, 16), (128, 8, 4)]


def flags(
    passes: Sequence[NDArray[np.int16]], num_experts: int, *, are_requests: bool = False
) -> list[bool]:
    top_k = passes[0].shape[2]
    signs = [pass_sign(counts_of(each, num_experts), top_k) for each in passes]
    return dummy_passes(signs, are_requests=are_requests)


def repeated(one: NDArray[np.int16], num_tokens: int) -> NDArray[np.int16]:
    """Return a pass of tokens that are all the one given, [num_layers, 1, top_k]."""
    return np.repeat(one, num_tokens, axis=1)


@pytest.mark.parametrize(("num_experts", "top_k", "num_layers"), SHAPES)
def test_no_pass_of_real_tokens_is_flagged(num_experts: int, top_k: int, num_layers: int) -> None:
    draw = np.random.default_rng(0)
    sizes = draw.choice([1, 1, 1, 2, 3, 7, 8, 9, 16, 32, 33, 64, 128], size=600)
    passes = [choose(draw, size, num_experts, top_k, num_layers) for size in sizes]

    assert sum(flags(passes, num_experts)) == 0
    assert sum(flags(passes, num_experts, are_requests=True)) == 0


def test_one_token_decoded_again_and_again_is_no_dummy() -> None:
    draw = np.random.default_rng(0)
    prompt = choose(draw, 100, 32, 4, 8)
    line_break = choose(draw, 1, 32, 4, 8)
    words = [choose(draw, 1, 32, 4, 8) for _ in range(20)]

    assert sum(flags([prompt, *[line_break] * 30, *words], 32)) == 0


def test_zeroed_passes_of_every_size_are_flagged_and_no_other() -> None:
    draw = np.random.default_rng(0)
    zero = choose(draw, 1, 32, 4, 8)
    capture = [repeated(zero, size) for size in (256, 128, 64, 32, 16, 8, 4, 2, 1)]
    real = [choose(draw, size, 32, 4, 8) for size in (1, 512, 1, 4, 8, 16, 8, 1)]

    found = flags([*capture, *real[:4], repeated(zero, 64), *real[4:]], 32)

    assert found == [True] * 9 + [False] * 4 + [True] + [False] * 4


def test_a_few_tokens_that_float_errors_sent_elsewhere_hide_no_dummy() -> None:
    draw = np.random.default_rng(0)
    dummy = repeated(choose(draw, 1, 32, 4, 8), 512)
    dummy[:, :10] = choose(draw, 10, 32, 4, 8)

    assert flags([dummy, choose(draw, 512, 32, 4, 8)], 32) == [True, False]


def test_a_pass_run_twice_for_capture_is_flagged_both_times() -> None:
    draw = np.random.default_rng(0)
    random = [choose(draw, size, 32, 4, 8) for size in (64, 32, 16)]
    real = [choose(draw, 16, 32, 4, 8) for _ in range(4)]
    passes = [each for each in random for _ in range(2)]

    assert flags([*passes, *real], 32) == [True] * 6 + [False] * 4


def test_the_same_request_sent_twice_is_no_dummy() -> None:
    draw = np.random.default_rng(0)
    request = choose(draw, 64, 32, 4, 8)
    zero = repeated(choose(draw, 1, 32, 4, 8), 64)

    assert flags([request, request, zero], 32, are_requests=True) == [False, False, True]


def test_a_large_round_pass_of_real_tokens_is_no_dummy() -> None:
    draw = np.random.default_rng(0)
    passes = [choose(draw, size, 32, 4, 8) for size in (8192, 8192, 16, 16, 16)]

    assert sum(flags(passes, 32)) == 0


def test_a_model_that_has_collapsed_is_not_called_a_dummy() -> None:
    one = choose(np.random.default_rng(0), 1, 32, 4, 8)

    assert sum(flags([repeated(one, size) for size in (64, 16, 16, 1)], 32)) == 0
