"""Claims about the power law of aiconfigurator's collector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeprof.workload.routing import draw, parse, rows_per_expert
from moeprof.workload.routing.power_law import rows_by_power_law


def wanted_rows(
    quantiles: np.ndarray, exponent: float, num_tokens: int, num_rows: int
) -> list[int]:
    """Rounded shares of the rows, before they are mended."""
    low, high = (1, 0.8 * num_tokens) if num_rows > len(quantiles) else (0.01, 2)
    power = 1 - exponent
    samples = (low**power + quantiles * (high**power - low**power)) ** (1 / power)
    return [round(share) for share in (samples / samples.sum() * num_rows).tolist()]


def collector_rows(
    quantiles: np.ndarray, exponent: float, num_tokens: int, top_k: int
) -> list[int]:
    """Row counts by the steps that aiconfigurator's collector takes, one row at a time."""
    num_rows = num_tokens * top_k
    wanted = wanted_rows(quantiles, exponent, num_tokens, num_rows)
    rows = [min(count, num_tokens) for count in wanted]
    for _ in range(sum(wanted) - sum(rows)):
        rows[rows.index(min(rows))] += 1
    while sum(rows) < num_rows:
        rows[rows.index(min(rows))] += 1
    while sum(rows) > num_rows:
        rows[rows.index(max(rows))] -= 1
    return rows


@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.integers(1, 60),
    st.sampled_from([0.4, 1.01, 1.2, 1.9, 3.0]),
    st.integers(0, 100),
)
def test_power_law_rows_are_those_of_the_collector(
    experts_and_top_k: tuple[int, int], num_tokens: int, exponent: float, seed: int
) -> None:
    num_experts, top_k = experts_and_top_k
    quantiles = np.random.default_rng(seed).random(num_experts)

    rows = rows_by_power_law(quantiles, exponent, num_tokens=num_tokens, top_k=top_k)

    assert rows.tolist() == collector_rows(quantiles, exponent, num_tokens, top_k)
    assert rows.max() <= num_tokens


def earlier_collector_rows(
    quantiles: np.ndarray, exponent: float, num_tokens: int, top_k: int
) -> list[int]:
    """Row counts by the steps that the collector took until April 2026, one row at a time."""
    num_rows, num_experts = num_tokens * top_k, len(quantiles)
    wanted = wanted_rows(quantiles, exponent, num_tokens, num_rows)
    rows = [min(count, num_tokens) for count in wanted]

    def emptiest_first() -> list[int]:
        return sorted(range(num_experts), key=lambda expert: (rows[expert], -expert))

    order = emptiest_first()
    for _ in range(sum(wanted) - sum(rows)):
        if open_ones := [expert for expert in order if rows[expert] < num_tokens]:
            rows[open_ones[0]] += 1
    order, place = emptiest_first(), 0
    while sum(rows) < num_rows:
        expert = order[place % num_experts]
        rows[expert] += rows[expert] < num_tokens
        place += 1
    for place in range(sum(rows) - num_rows):
        expert = order[place % num_experts]
        rows[expert if rows[expert] else rows.index(max(rows))] -= 1
    return rows


@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.integers(1, 60),
    st.sampled_from([0.4, 1.01, 1.2, 1.9, 3.0]),
    st.integers(0, 100),
)
def test_packed_power_law_rows_are_those_of_the_earlier_collector(
    experts_and_top_k: tuple[int, int], num_tokens: int, exponent: float, seed: int
) -> None:
    num_experts, top_k = experts_and_top_k
    quantiles = np.random.default_rng(seed).random(num_experts)

    rows = rows_by_power_law(quantiles, exponent, num_tokens=num_tokens, top_k=top_k, packed=True)

    assert rows.tolist() == earlier_collector_rows(quantiles, exponent, num_tokens, top_k)
    assert rows.max() <= num_tokens


@pytest.mark.parametrize("exponent", [0.5, 1.01, 1.2])
def test_power_law_rows_are_distributed_with_their_exponent(exponent: float) -> None:
    num_tokens, num_experts = 8192, 2048
    layer = {"num_tokens": num_tokens, "num_experts": num_experts, "top_k": 64, "seed": 1}

    rows = rows_per_expert(draw(parse(f"power_law:{exponent}"), **layer), num_experts)

    low, high = 1.0, 0.8 * num_tokens
    t = 1 - exponent
    quarter, three_quarters = (
        (low**t + share * (high**t - low**t)) ** (1 / t) for share in (0.25, 0.75)
    )
    observed = np.log(np.quantile(rows, 0.75) / np.quantile(rows, 0.25))
    assert observed == pytest.approx(np.log(three_quarters / quarter), rel=0.1)


def test_a_steeper_power_law_loads_the_hottest_expert_more() -> None:
    hottest = [
        np.mean(
            [
                rows_per_expert(
                    draw(parse(text), num_tokens=256, num_experts=128, top_k=8, seed=seed), 128
                ).max()
                for seed in range(20)
            ]
        )
        for text in ("balanced", "power_law:0.5", "power_law:1.01", "power_law:1.2")
    ]

    assert hottest == sorted(hottest)
    assert hottest[-1] > 1.5 * hottest[1]
