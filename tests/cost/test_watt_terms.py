from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from cost.tables import grid, law_seconds, row, table

from moeprof.cost.contexts import contexts_of, kernel_names
from moeprof.cost.points import points_from_table
from moeprof.cost.watt_terms import (
    WATT_NUMBERS,
    WATT_SHARES,
    WATT_TERMS,
    limit_watts,
    watt_contexts,
    watt_terms,
)

if TYPE_CHECKING:
    from moeprof.cost.points import Points

NAMES = [term.name for term in WATT_TERMS]
ENERGIES = [name for name in NAMES if name != "rest"]


def points_of(*rows: dict) -> Points:
    return points_from_table(table(list(rows)))


def test_the_same_energy_over_twice_the_time_is_half_the_power() -> None:
    points = grid()
    seconds = law_seconds(points)

    once, twice = watt_terms(points, seconds), watt_terms(points, 2 * seconds)

    assert once.shape == (len(points), len(WATT_TERMS))
    for place, name in enumerate(NAMES):
        factor = 2 if name in ENERGIES else 1
        np.testing.assert_allclose(once[:, place], factor * twice[:, place], err_msg=name)


def test_no_term_falls_when_an_expert_gets_more_rows_in_the_same_time() -> None:
    counts = np.zeros(128, dtype=np.int64)
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(40):
        counts[draw.integers(0, 128, 3)] += draw.integers(1, 40)
        rows.append(row(rows_per_expert=counts.tolist(), batch_size=2000))
    points = points_of(*rows)

    terms = watt_terms(points, np.full(len(points), 1e-4))

    assert (np.diff(terms, axis=0) >= -1e-9 * terms[1:]).all()


def test_every_term_has_a_share_of_the_energy() -> None:
    assert len(WATT_SHARES) == len(WATT_TERMS)


def test_every_point_has_a_context_of_its_own() -> None:
    points = grid()

    contexts = watt_contexts(points, contexts_of(points), law_seconds(points))

    assert contexts.index.tolist() == list(range(len(points)))
    assert contexts.numbers.shape == (len(points), len(WATT_NUMBERS))
    assert contexts.kernel.texts() == kernel_names(points)


def test_a_context_says_how_busy_the_memory_is() -> None:
    points = points_of(row(routing_pattern=None, num_active_experts=10, num_rows=20))
    read_seconds = 10 * 3 * 2048 * 768 * 2 / 4.8e12

    numbers = watt_contexts(points, contexts_of(points), np.array([2 * read_seconds])).numbers

    place = WATT_NUMBERS.index("weights_bandwidth")
    assert np.exp(numbers[0, place]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows_per_expert": [0] * 128},
        {"device_kind": "somebody's", "device_name": None},
        {"hidden_size": 1, "expert_size": 1, "batch_size": 1},
    ],
)
def test_terms_and_contexts_are_finite_at_the_borders(changes: dict) -> None:
    points = points_of(row(**changes))
    seconds = np.array([1e-5])

    assert np.isfinite(watt_terms(points, seconds)).all()
    assert np.isfinite(watt_contexts(points, contexts_of(points), seconds).numbers).all()


def test_the_limit_in_force_comes_before_the_gpu_s_own_and_that_before_a_stand_in() -> None:
    points = points_of(
        row(power_limit_watts=450.0),
        row(),
        row(device_kind="somebody's", device_name=None),
        row(device_kind="somebody's", device_name=None, power_limit_watts=90.0),
    )

    assert limit_watts(points).tolist() == [450, 700, 300, 90]
