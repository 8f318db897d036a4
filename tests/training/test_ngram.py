"""The 3-gram byte model on texts whose entropy is known."""

from __future__ import annotations

import numpy as np
import pytest

from moeprof.training.ngram import fit_trigram


def random_bytes(num: int, seed: int, values: int) -> bytes:
    return np.random.default_rng(seed).integers(0, values, num).astype(np.uint8).tobytes()


def second_order(num: int, seed: int) -> bytes:
    """Return bytes that follow from the two before them, but for one in ten."""
    random = np.random.default_rng(seed)
    text = [1, 2]
    for strays, stray in zip(random.random(num) < 0.1, random.integers(0, 8, num), strict=True):
        text.append(int(stray) if strays else (3 * text[-1] + text[-2]) % 8)
    return bytes(text)


def test_bytes_without_order_cost_their_entropy() -> None:
    model = fit_trigram(random_bytes(200_000, 0, 4), random_bytes(20_000, 1, 4))

    assert model.bits_per_byte(random_bytes(50_000, 2, 4)) == pytest.approx(2.0, abs=0.01)


def test_two_bytes_of_context_are_used() -> None:
    model = fit_trigram(second_order(200_000, 0), second_order(20_000, 1))

    # The right byte has probability 0.9 + 0.1 / 8, each of the others 0.1 / 8.
    right, other = 0.9125, 0.0125
    entropy = -right * np.log2(right) - 7 * other * np.log2(other)
    assert model.bits_per_byte(second_order(50_000, 2)) == pytest.approx(entropy, rel=0.02)


def test_a_byte_never_seen_is_not_impossible() -> None:
    model = fit_trigram(b"abcabcabc" * 50, b"abcabcabz" * 50)

    assert model.bits_per_byte(b"abzabqabc") < 8


def test_probabilities_of_the_next_byte_sum_to_one() -> None:
    model = fit_trigram(b"the cat sat on the mat. " * 40, b"the hat sat on the cat. " * 9)

    costs = [model.bits_per_byte(b"th" + bytes([byte])) for byte in range(256)]
    assert sum(2.0**-cost for cost in costs) == pytest.approx(1.0)


def test_weights_of_a_context_sum_to_one() -> None:
    model = fit_trigram(random_bytes(5000, 0, 16), random_bytes(500, 1, 16))

    assert model.weights.sum(1) == pytest.approx(1.0)
