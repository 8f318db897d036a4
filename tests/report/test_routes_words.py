"""How figures of a comparison are worded, and where a picture's labels go."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeprof.evaluation.judge.student import Estimated
from moeprof.report.routes_drawing import colours_of, spread_out
from moeprof.report.routes_words import (
    change,
    duration,
    label,
    latency_unit,
    millinats,
    spread,
)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Estimated(1.0, 0.9, 1.1), "1.0 ± 0.1"),
        (Estimated(1.0, 0.8, 1.1), "1.0 [0.8, 1.1]"),
        (Estimated(1.0, None, 1.1), "1.0 [?, 1.1]"),
        (Estimated(1.0, None, None), "1.0"),
        (Estimated(-0.5, -0.75, -0.25), "-0.5 ± 0.2"),
    ],
)
def test_an_interval_is_shown_as_far_as_it_is_known(found: Estimated, words: str) -> None:
    assert spread(found, digits=1) == words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Estimated(0.8, 0.793, 0.807), "-20.0 ± 0.7"),
        (Estimated(1.05, 1.0, 1.1), "+5.0 ± 5.0"),
        (Estimated(1.0, 1.0, 1.0), "0.0 ± 0.0"),
        (Estimated(0.9999, 0.98, 1.0198), "0.0 ± 2.0"),
        (Estimated(1.0001, None, None), "0.0"),
        (None, "-"),
    ],
)
def test_a_ratio_is_a_signed_change_unless_it_rounds_to_none(
    ratio: Estimated | None, words: str
) -> None:
    assert change(ratio) == words


def test_small_words_have_their_units() -> None:
    assert millinats(Estimated(0.0062, 0.0029, 0.0096)) == "6.2 [2.9, 9.6]"
    assert millinats(Estimated(0.0, 0.0, 0.0)) == "0"
    assert label("oea", {"base_k": 2}) == "oea (base_k=2)"
    assert label("marginal-cost", {"lambda_": 0.35}) == "marginal-cost (λ=0.35)"
    assert label("top-k", {}) == "top-k"
    assert duration(0.0) == "0"
    assert duration(2e-5) == "20.0 µs"
    assert latency_unit(0.0099)[1] == "µs"
    assert latency_unit(0.01)[1] == "ms"


def test_labels_that_fit_stay_and_those_that_collide_share_what_they_lack() -> None:
    assert spread_out([0.9, 0.1], gap=0.1) == [0.9, 0.1]
    assert spread_out([0.5, 0.5], gap=0.2) == pytest.approx([0.4, 0.6])
    assert spread_out([1.0, 1.0], gap=0.2) == pytest.approx([0.8, 1.0])
    assert spread_out([], gap=0.1) == []


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.floats(0.001, 0.2),
)
def test_labels_lie_in_the_picture_a_gap_apart_in_their_points_order(
    places: list[float], gap: float
) -> None:
    found = spread_out(places, gap=gap)

    in_order = [found[place] for place in sorted(range(len(places)), key=places.__getitem__)]
    assert all(-1e-9 <= each <= 1 + 1e-9 for each in found)
    gap = min(gap, 1 / len(places))
    assert all(second - first >= gap - 1e-9 for first, second in pairwise(in_order))


def test_no_two_of_twenty_policies_have_one_colour() -> None:
    names = [*(f"rival-{number}" for number in range(18)), "marginal-cost", "oracle"]

    found = colours_of(names, frozenset({"oracle"}))

    assert len(set(found.values())) == len(names)
