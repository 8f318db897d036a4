from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cost.tables import TOKENS, row, table

from moeprof.cost.adapt import adapt
from moeprof.cost.points import Observed, points_from_table
from moeprof.errors import FitError

if TYPE_CHECKING:
    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Points

NEW = {"hidden_size": 3072, "expert_size": 1024, "num_experts": 32, "top_k": 4}
MEASURED = np.arange(len(TOKENS)) % 2 == 0


def at(tokens: tuple[int, ...] = TOKENS, **changes: Any) -> Points:
    return points_from_table(table([row(batch_size=each, **changes) for each in tokens]))


def observed_of(seconds: np.ndarray, watts: np.ndarray | None = None) -> Observed:
    nothing = np.full(len(seconds), np.nan)
    return Observed(seconds, nothing, nothing, nothing if watts is None else watts, nothing)


def slower(model: CostModel, points: Points, factor: float = 1.2) -> np.ndarray:
    return factor * model.seconds(points).value


@pytest.mark.parametrize(
    "changes", [NEW, {}, {"kernel": "marlin"}, {"device_kind": "imported:h100-sxm"}]
)
def test_the_error_of_a_layer_20_percent_slower_is_more_than_halved(
    model: CostModel, changes: dict
) -> None:
    points = at(**changes)
    truth = slower(model, points)

    adapted = adapt(model, points.take(MEASURED), observed_of(truth[MEASURED]))

    error = np.abs(adapted.seconds(points).value / truth - 1)
    assert error[~MEASURED].max() < 0.5 * (1 - 1 / 1.2)
    assert error[MEASURED].max() < 0.03


def test_other_layers_keep_their_predictions_bit_for_bit(
    model: CostModel, measured_table: Any
) -> None:
    points, others = at(**NEW), points_from_table(measured_table)

    adapted = adapt(model, points, observed_of(slower(model, points)))

    for ask in ("seconds", "joules", "average_watts"):
        before, after = getattr(model, ask)(others), getattr(adapted, ask)(others)
        for name in ("value", "low", "high"):
            assert getattr(before, name).tobytes() == getattr(after, name).tobytes(), (ask, name)


def test_the_fit_itself_stays_and_can_be_adapted_again(model: CostModel) -> None:
    points = at(**NEW)
    truth = slower(model, points)
    before = model.seconds(points).value

    once = adapt(model, points, observed_of(truth))
    twice = adapt(once, points, observed_of(1.1 * truth))

    assert (model.seconds(points).value == before).all()
    assert [len(each.latency.anchors) for each in (model, once, twice)] == [0, 1, 2]
    np.testing.assert_allclose(twice.seconds(points).value, 1.1 * truth, rtol=0.03)


def test_an_adapted_layer_counts_as_seen(model: CostModel) -> None:
    points = at(**NEW)
    assert model.seconds(points).extrapolating.all()

    adapted = adapt(model, points, observed_of(slower(model, points)))

    assert not adapted.seconds(points).extrapolating.any()
    assert adapted.seconds(at((2**15,), **NEW)).extrapolating.all()


def test_intervals_hold_nine_of_ten_new_points(model: CostModel) -> None:
    tokens = tuple(range(1, 400, 3))
    points = at(tokens, **NEW)
    noise = np.exp(np.random.default_rng(0).normal(0, 0.05, len(tokens)))
    truth = slower(model, points) * noise
    some = np.random.default_rng(1).random(len(tokens)) < 0.4

    asked = adapt(model, points.take(some), observed_of(truth[some])).seconds(points.take(~some))

    inside = (asked.low <= truth[~some]) & (truth[~some] <= asked.high)
    assert 0.8 < inside.mean() < 0.99


def test_power_is_adapted_where_points_have_it(model: CostModel) -> None:
    points = at(**NEW)
    power = model.average_watts(points)
    assert power is not None
    watts = 0.8 * power.value

    adapted = adapt(model, points, observed_of(slower(model, points, 1.0), watts))

    found = adapted.average_watts(points)
    assert found is not None
    np.testing.assert_allclose(found.value, watts, rtol=0.03)


def test_power_stays_as_it_was_where_too_few_points_have_it(model: CostModel) -> None:
    points = at(**NEW)
    watts = np.where(points.batch_size <= 8, 300.0, np.nan)

    adapted = adapt(model, points, observed_of(slower(model, points), watts))

    assert adapted.watts is model.watts
    assert (
        adapt(replace(model, watts=None), points, observed_of(slower(model, points))).watts is None
    )


@pytest.mark.parametrize(
    ("num", "message", "hint"),
    [
        (3, "adapted to 5 to 2000 points, got 3", "Measure more points."),
        (2001, "adapted to 5 to 2000 points, got 2001", "Fit a model of its own"),
    ],
)
def test_too_few_and_too_many_points_are_refused(
    model: CostModel, num: int, message: str, hint: str
) -> None:
    points = at(**NEW).take(np.arange(num) % len(TOKENS))

    with pytest.raises(FitError, match=message) as refusal:
        adapt(model, points, observed_of(np.full(num, 1e-4)))

    assert refusal.value.hint is not None
    assert refusal.value.hint.startswith(hint)
