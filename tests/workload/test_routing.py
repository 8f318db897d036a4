"""Claims about how tokens fall on experts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeprof.errors import WorkloadError
from moeprof.workload.routing import Active, Hot, Zipf, check, draw, parse, rows_per_expert

PATTERNS = [
    *("uniform", "balanced", "active:9", "zipf:1.2", "zipf:400", "power_law:1", "power_law:1.01"),
    "packed_power_law:1.2",
    *("dirichlet:0.3", "dirichlet:0.0001", "hot:3@0.6"),
]


@st.composite
def layers(draw_: st.DrawFn) -> dict[str, int]:
    num_experts = draw_(st.integers(1, 40))
    return {
        "num_experts": num_experts,
        "top_k": draw_(st.integers(1, num_experts)),
        "num_tokens": draw_(st.integers(1, 50)),
        "seed": draw_(st.integers(0, 1000)),
    }


@st.composite
def drawable(draw_: st.DrawFn) -> tuple[str, dict[str, int]]:
    layer = draw_(layers())
    forms = ["uniform", "balanced", "zipf:1.5", "power_law:0.3", "power_law:1", "power_law:1.2"]
    forms += ["power_law:3", "dirichlet:0.1", f"active:{most_active(layer)}"]
    if layer["num_experts"] > 1:
        num_hot = draw_(st.integers(1, layer["num_experts"] - 1))
        forms.append(f"hot:{num_hot}@{draw_(st.floats(0, 1))}")
    return draw_(st.sampled_from(forms)), layer


def most_active(layer: dict[str, int]) -> int:
    return min(layer["num_experts"], layer["num_tokens"] * layer["top_k"])


@given(drawable())
def test_every_token_gets_distinct_experts_and_every_row_is_counted(
    case: tuple[str, dict[str, int]],
) -> None:
    text, layer = case

    ids = draw(parse(text), **layer)

    assert ids.shape == (layer["num_tokens"], layer["top_k"])
    assert all(len(set(token)) == layer["top_k"] for token in ids.tolist())
    rows = rows_per_expert(ids, layer["num_experts"])
    assert rows.shape == (layer["num_experts"],)
    assert rows.sum() == ids.size


@given(drawable())
def test_the_same_arguments_draw_the_same_ids(case: tuple[str, dict[str, int]]) -> None:
    text, layer = case

    assert np.array_equal(draw(parse(text), **layer), draw(parse(text), **layer))


@pytest.mark.parametrize("text", PATTERNS)
def test_seeds_differ(text: str) -> None:
    first, second = (
        draw(parse(text), num_tokens=32, num_experts=16, top_k=4, seed=seed) for seed in (1, 2)
    )

    assert not np.array_equal(first, second)


@given(layers())
def test_balanced_row_counts_differ_by_at_most_one(layer: dict[str, int]) -> None:
    rows = rows_per_expert(draw(parse("balanced"), **layer), layer["num_experts"])

    assert rows.max() - rows.min() <= 1


@given(layers(), st.data())
def test_active_activates_exactly_n_experts_evenly(
    layer: dict[str, int], data: st.DataObject
) -> None:
    num_active = data.draw(st.integers(layer["top_k"], most_active(layer)))

    rows = rows_per_expert(draw(Active(num_active), **layer), layer["num_experts"])

    assert (rows > 0).sum() == num_active
    assert rows.max() - rows[rows > 0].min() <= 1


def test_active_chooses_the_same_experts_at_every_batch_size() -> None:
    chosen = {
        frozenset(draw(Active(12), num_tokens=num_tokens, num_experts=64, top_k=4, seed=3).flat)
        for num_tokens in (3, 8, 64, 1000)
    }

    assert len(chosen) == 1


@pytest.mark.parametrize("text", ["zipf:1", "dirichlet:0.2", "hot:4@0.9", "power_law:1.2"])
def test_the_same_experts_are_popular_at_every_batch_size(text: str) -> None:
    for seed in range(5):
        few, many = (
            rows_per_expert(
                draw(parse(text), num_tokens=num_tokens, num_experts=16, top_k=2, seed=seed), 16
            )
            for num_tokens in (2000, 8000)
        )

        assert np.corrcoef(few, many)[0, 1] > 0.95


def test_uniform_gives_every_expert_its_share() -> None:
    num_tokens, num_experts, top_k = 20_000, 16, 4

    ids = draw(
        parse("uniform"), num_tokens=num_tokens, num_experts=num_experts, top_k=top_k, seed=0
    )

    share = top_k / num_experts
    sigma = np.sqrt(num_tokens * share * (1 - share))
    assert abs(rows_per_expert(ids, num_experts) - num_tokens * share).max() < 5 * sigma


def inclusion(weights: list[float], top_k: int) -> np.ndarray:
    """Probability of each expert among k successive draws, by enumerating every sequence."""
    probability = np.zeros(len(weights))
    for sequence in itertools.permutations(range(len(weights)), top_k):
        chance, left = 1.0, sum(weights)
        for expert in sequence:
            chance *= weights[expert] / left
            left -= weights[expert]
        probability[list(sequence)] += chance
    return probability


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_zipf_agrees_with_enumerated_draws_without_replacement(exponent: float, top_k: int) -> None:
    num_tokens = 40_000
    weights = [rank**-exponent for rank in range(1, 6)]

    ids = draw(Zipf(exponent), num_tokens=num_tokens, num_experts=5, top_k=top_k, seed=7)

    observed = np.sort(rows_per_expert(ids, 5) / num_tokens)[::-1]
    assert observed == pytest.approx(inclusion(weights, top_k), abs=5 * 0.5 / np.sqrt(num_tokens))


def test_dirichlet_popularity_has_the_variance_of_its_concentration() -> None:
    concentration, num_experts, num_tokens, num_seeds = 0.5, 8, 400, 600
    pattern = parse(f"dirichlet:{concentration}")

    shares = np.array(
        [
            rows_per_expert(
                draw(pattern, num_tokens=num_tokens, num_experts=num_experts, top_k=1, seed=seed),
                num_experts,
            )
            / num_tokens
            for seed in range(num_seeds)
        ]
    )

    mean = 1 / num_experts
    variance = mean * (1 - mean) / (concentration * num_experts + 1)
    # Counting a finite batch adds its multinomial variance.
    observed = variance + (mean - mean**2 - variance) / num_tokens
    assert shares.var(axis=0).mean() == pytest.approx(observed, rel=0.15)


@pytest.mark.parametrize(
    ("num_hot", "share_fraction", "top_k", "expected"),
    [
        (4, 0.7, 4, 0.7),
        (4, 0.33, 3, 0.33),
        (1, 0.9, 4, 0.25),  # one expert can have one of a token's four slots
        (14, 0.1, 4, 0.5),  # two cold experts can have two of them
        (4, 0.0, 4, 0.0),
        (4, 1.0, 4, 1.0),
    ],
)
def test_hot_experts_receive_their_share(
    num_hot: int, share_fraction: float, top_k: int, expected: float
) -> None:
    num_tokens = 10_000
    pattern = Hot(num_hot, share_fraction)

    ids = draw(pattern, num_tokens=num_tokens, num_experts=16, top_k=top_k, seed=5)

    # Which experts are hot is the seed's secret; their row counts give them away.
    rows = np.sort(rows_per_expert(ids, 16))
    hotter = share_fraction / num_hot >= (1 - share_fraction) / (16 - num_hot)
    hot_rows = rows[-num_hot:] if hotter else rows[:num_hot]
    assert hot_rows.sum() / ids.size == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("text", "layer", "right"),
    [
        ("active:3", (8, 4, 10), "4..8"),
        ("active:9", (8, 4, 10), "4..8"),
        ("active:9", (64, 4, 2), "4..8"),
        ("hot:8@0.5", (8, 4, 2), "1..7"),
        ("hot:1@0.5", (1, 1, 2), "two experts"),
        ("uniform", (8, 9, 2), "1..8"),
        ("uniform", (8, 0, 2), "1..8"),
        ("uniform", (0, 1, 2), "at least 1, got 0"),
        ("uniform", (8, 2, 0), "at least 1, got 0"),
    ],
)
def test_impossible_combinations_say_what_would_be_right(
    text: str, layer: tuple[int, int, int], right: str
) -> None:
    num_experts, top_k, num_tokens = layer

    with pytest.raises(WorkloadError, match=right.replace(".", r"\.")):
        check(parse(text), num_experts=num_experts, top_k=top_k, num_tokens=num_tokens)
    with pytest.raises(WorkloadError):
        draw(parse(text), num_experts=num_experts, top_k=top_k, num_tokens=num_tokens, seed=0)
