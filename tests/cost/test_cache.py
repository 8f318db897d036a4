from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cost.tables import row, table

from moeprof.cost.cache import caches_per_expert, missed_fraction
from moeprof.cost.points import points_from_table
from moeprof.cost.terms import term_seconds

L40S_BYTES = 100_663_296
L40S = {"device_kind": "imported:l40s", "device_name": "NVIDIA L40S"}


def missed(*cache_multiples: float, **changes: Any) -> list[float]:
    points = points_from_table(table([row(**L40S | changes)]))
    expert_caches = 3 * 2048 * 768 * 2 / L40S_BYTES
    experts = np.array(cache_multiples) / expert_caches
    return missed_fraction(experts * caches_per_expert(points)).tolist()


def test_weights_that_fit_the_cache_are_not_read_again() -> None:
    assert missed(0.0, 0.5, 0.85) == [0.0, 0.0, 0.0]


def test_weights_a_fifth_beyond_the_cache_are_all_read_again() -> None:
    assert missed(1.2, 2.0, 100.0) == [1.0, 1.0, 1.0]


def test_what_is_read_rises_with_the_weights() -> None:
    shares = missed(*np.linspace(0, 2, 100))

    assert (np.diff(shares) >= 0).all()
    assert missed(1.025) == [pytest.approx(0.5)]


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "moeprof", "engine_version": None},
        {"device_kind": "imported:somebody's", "device_name": None},
        {},
    ],
    ids=["own sweeps", "cache not known", "cache known"],
)
def test_a_rank_without_rows_has_finite_terms(changes: dict[str, Any]) -> None:
    points = points_from_table(table([row(rows_per_expert=[0] * 128, **changes)]))

    assert np.isfinite(term_seconds(points)).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "moeprof", "engine_version": None},
        {"device_kind": "imported:somebody's", "device_name": None},
    ],
    ids=["own sweeps rotate their weights", "cache not known"],
)
def test_all_is_read_where_nothing_stays(changes: dict[str, Any]) -> None:
    assert missed(0.1, **changes) == [1.0]
