from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cost.tables import row, table

from moeprof.cost.contexts import contexts_of
from moeprof.cost.model import _KEPT_BITS
from moeprof.cost.part_model import joined_parts
from moeprof.cost.points import points_from_table
from moeprof.cost.terms import Part, term_seconds
from moeprof.cost.watt_terms import limit_watts

if TYPE_CHECKING:
    import pyarrow as pa

    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Points


ROUNDING = 2.0**-_KEPT_BITS  # of one prediction, as a share of it


@pytest.fixture
def points(measured_table: pa.Table) -> Points:
    return points_from_table(measured_table)


def test_the_parts_of_a_breakdown_join_to_the_seconds(model: CostModel, points: Points) -> None:
    found = model.breakdown(points)

    parts = np.stack([found[f"{part.name.lower()}_seconds"] for part in Part], axis=1)
    seconds = joined_parts(parts) * found["correction_ratio"]
    np.testing.assert_allclose(seconds, model.seconds(points).value, rtol=ROUNDING)


def test_the_shares_of_a_breakdown_add_up_to_the_joules(model: CostModel, points: Points) -> None:
    shares = [each for name, each in model.breakdown(points).items() if name.endswith("_joules")]

    joules = model.joules(points)

    assert joules is not None
    assert len(shares) == 5
    np.testing.assert_allclose(np.sum(shares, axis=0), joules.value, rtol=ROUNDING)


@pytest.mark.parametrize("limit", [60.0, 250.0, 700.0])
def test_power_never_lies_above_the_limit_in_force(model: CostModel, limit: float) -> None:
    tokens = (1, 16, 256, 4096, 65536)
    rows = [row(batch_size=each, power_limit_watts=limit) for each in tokens]
    rows += [row(batch_size=each, power_limit_watts=limit, hidden_size=8192) for each in tokens]
    points = points_from_table(table(rows))

    power, joules = model.average_watts(points), model.joules(points)

    assert power is not None
    assert joules is not None
    assert (power.value <= limit_watts(points) * (1 + ROUNDING)).all()
    assert (joules.value <= limit * model.seconds(points).value * (1 + 2 * ROUNDING)).all()


def test_a_model_without_power_says_none_and_still_gives_seconds(
    model: CostModel, points: Points
) -> None:
    bare = replace(model, watts=None)

    assert bare.average_watts(points) is None
    assert bare.joules(points) is None
    assert not [name for name in bare.breakdown(points) if name.endswith("_joules")]
    assert (bare.seconds(points).value == model.seconds(points).value).all()


def test_only_what_was_not_measured_is_an_extrapolation(model: CostModel, points: Points) -> None:
    assert not model.seconds(points).extrapolating.any()
    others = points_from_table(
        table(
            [
                row(kernel="marlin"),
                row(hidden_size=3072),
                row(batch_size=65536),
                row(device_kind="imported:h100-sxm"),
            ]
        )
    )

    asked = model.seconds(others)

    assert asked.extrapolating.all()
    near, far = (np.log(each.high / each.low) for each in (model.seconds(points), asked))
    assert np.median(far) > np.median(near)


def test_predictions_keep_no_digits_that_another_machine_might_not_have(
    model: CostModel, points: Points
) -> None:
    asked = model.seconds(points)
    exact = joined_parts(
        model.latency.part_costs(contexts_of(points), term_seconds(points))
    ) * np.exp(model.latency.corrections(points, contexts_of(points)))

    np.testing.assert_allclose(asked.value, exact, rtol=ROUNDING)
    for values in (asked.value, asked.low, asked.high):
        mantissa = np.frexp(values)[0] / ROUNDING
        assert (mantissa == np.rint(mantissa)).all()


def test_no_points_give_no_predictions(model: CostModel, points: Points) -> None:
    nobody = points.take(np.zeros(0, dtype=np.int64))

    assert len(model.seconds(nobody).value) == 0
    power = model.average_watts(nobody)
    assert power is not None
    assert len(power.value) == 0
