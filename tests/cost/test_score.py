from __future__ import annotations

import numpy as np
import pytest
from cost.tables import grid

from moeprof.cost.score import regimes, score, score_by_regime


def test_errors_are_fractions_of_what_was_observed() -> None:
    found = score(np.full(4, 2.0), np.array([2.0, 2.2, 1.8, 4.0]))

    assert found is not None
    assert found.num_rows == 4
    assert found.median_ape_fraction == pytest.approx(0.1)
    assert found.mean_ape_fraction == pytest.approx(0.3)
    assert found.p90_ape_fraction == pytest.approx(1.0)
    assert found.bias_fraction == pytest.approx(0.05)
    assert found.interval_coverage_fraction is None


def test_too_high_predictions_have_a_bias_above_zero() -> None:
    observed = np.array([1.0, 5.0, 7.0])

    assert score(observed, observed * 1.2).bias_fraction == pytest.approx(0.2)
    assert score(observed, observed / 1.25).bias_fraction == pytest.approx(-0.2)


def test_coverage_is_the_share_inside_the_interval() -> None:
    observed = np.array([1.0, 2.0, 3.0, 4.0])

    found = score(observed, observed, np.full(4, 1.5), np.full(4, 4.0))

    assert found.interval_coverage_fraction == 0.75


def test_rows_without_an_observation_do_not_count() -> None:
    assert score(np.array([np.nan, 1.0]), np.array([1.0, 1.0])).num_rows == 1
    assert score(np.array([np.nan]), np.array([1.0])) is None


def test_a_prediction_that_is_not_a_number_is_seen_in_the_mean() -> None:
    found = score(np.ones(10), np.array([1.0] * 9 + [np.nan]))

    assert found.mean_ape_fraction == np.inf
    assert found.median_ape_fraction == 0
    assert found.to_json()["mean_ape"] is None


def test_reports_name_the_errors_as_the_field_does() -> None:
    found = score(np.ones(2), np.ones(2)).to_json()

    assert list(found) == [
        *("num_rows", "median_ape", "mean_ape", "p90_ape", "bias", "interval_coverage")
    ]


def test_a_regime_without_rows_is_left_out() -> None:
    points = grid()
    few = points.take(points.batch_size <= 64)

    masks = regimes(points, outside=points.batch_size == 2048)

    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "all": 48,
        "decode": 36,
        "beyond": 12,
        "outside": 4,
    }
    assert list(regimes(few)) == ["all", "decode"]


def test_a_regime_is_scored_on_its_own_rows() -> None:
    points = grid()
    observed = np.ones(len(points))
    predicted = np.where(points.batch_size > 256, 2.0, 1.0)

    found = score_by_regime(regimes(points), observed, predicted)

    assert found["decode"].mean_ape_fraction == 0
    assert found["beyond"].mean_ape_fraction == 1
