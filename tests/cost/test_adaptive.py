from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from cost.tables import grid, law_seconds, row, table

from moeprof.cost.adaptive import half_width_fractions, most_worth, with_measured
from moeprof.cost.points import Observed, Points, points_from_table

if TYPE_CHECKING:
    from moeprof.cost.model import CostModel

TOKENS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)


def observed_of(points: Points, seconds: np.ndarray) -> Observed:
    nothing = np.full(len(points), np.nan)
    return Observed(seconds, seconds * 0.999, seconds * 1.001, nothing, nothing)


def new_layer() -> Points:
    """Return a layer that the model was not fitted to, and slower than the law it knows."""
    rows = [
        row(hidden_size=3072, expert_size=1024, num_experts=32, top_k=4, batch_size=tokens)
        for tokens in TOKENS
    ]
    return points_from_table(table(rows))


def test_measured_points_make_their_neighbours_known_and_right(model: CostModel) -> None:
    points = new_layer()
    seconds = 1.3 * law_seconds(points)
    ends = np.array([0, 4, 9])

    found = with_measured(model, points.take(ends), observed_of(points, seconds).take(ends))

    before, after = half_width_fractions(model, points), half_width_fractions(found, points)
    assert np.median(after) < np.median(before)
    between = np.setdiff1d(np.arange(len(TOKENS)), ends)
    errors = [
        np.abs(np.log(each.seconds(points).value / seconds))[between] for each in (model, found)
    ]
    assert errors[1].max() < errors[0].min()


def test_without_measured_points_the_model_is_the_same(model: CostModel) -> None:
    points = new_layer().take(np.zeros(0, dtype=np.int64))

    assert with_measured(model, points, observed_of(points, np.zeros(0))) is model


def test_the_widest_interval_per_second_comes_first(model: CostModel) -> None:
    points = grid().take(np.array([0, 12, 24]))  # one point of three layers, equally quick
    widths = np.array([0.1, 0.3, 0.2])

    assert most_worth(model, points, widths, 3).tolist() == [1, 2, 0]
    assert most_worth(model, points, widths, 2).tolist() == [1, 2]


def test_of_equal_widths_the_quicker_point_comes_first(model: CostModel) -> None:
    points = grid().take(np.array([11, 0, 5]))  # 2048, 1 and 32 tokens of one layer

    found = most_worth(model, points, np.full(3, 0.5), 3)

    assert np.all(np.diff(model.seconds(points).value[found]) > 0)


def test_every_curve_gets_a_point_before_any_gets_a_second(model: CostModel) -> None:
    points = grid()
    widths = np.linspace(1.0, 0.5, len(points))

    found = most_worth(model, points, widths, 4)

    assert len(np.unique(points.hidden_size[found])) == 4


def test_points_that_are_not_asked_about_are_never_chosen(model: CostModel) -> None:
    points = grid()
    widths = np.zeros(len(points))
    widths[7] = 0.1

    assert most_worth(model, points, widths, 10).tolist() == [7]
