from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cost.tables import SHAPES, TOKENS, grid, law_seconds, row, table

from moeprof.cost.fit import FitSettings, fit_cost
from moeprof.cost.points import Observed, observed_from_table, points_from_table
from moeprof.errors import FitError

if TYPE_CHECKING:
    import pyarrow as pa

    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Points

QUICK = FitSettings(num_steps=60, num_rehearsal_steps=20)
LAYERS = (*SHAPES, (3072, 1024, 96, 6), (2880, 2880, 32, 4), (5120, 1536, 160, 6))


def observed_of(seconds: np.ndarray) -> Observed:
    nothing = np.full(len(seconds), np.nan)
    return Observed(seconds, nothing, nothing, nothing, nothing)


def many_points() -> Points:
    names = ("hidden_size", "expert_size", "num_experts", "top_k")
    rows = [
        row(
            **dict(zip(names, layer, strict=True)),
            tp_size=ranks,
            routing_pattern=pattern,
            batch_size=tokens,
        )
        for layer, ranks, pattern, tokens in product(
            LAYERS, (1, 2, 4), ("uniform", "balanced"), TOKENS
        )
    ]
    return points_from_table(table(rows))


def noisy(points: Points, noise: float, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return law_seconds(points) * np.exp(draw.normal(0, noise, len(points)))


def coverage(model: CostModel, points: Points, seconds: np.ndarray) -> float:
    asked = model.seconds(points)
    return float(np.mean((asked.low <= seconds) & (seconds <= asked.high)))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ((), "at least 12 measured points at 3 or more batch sizes, got 0 at 0 (none)"),
        ((1, 2, 4), "got 3 at 3 (1, 2, 4)"),
        ((8,) * 20, "got 20 at 1 (8)"),
        ((1, 8) * 10, "got 20 at 2 (1, 8)"),
        (tuple(range(1, 12)), "got 11 at 11 (1, 2, "),
    ],
)
def test_too_few_points_are_refused_and_what_is_missing_is_said(
    tokens: tuple[int, ...], message: str
) -> None:
    points = grid().take(np.searchsorted(TOKENS, [1]))
    points = replace(
        points.take(np.zeros(len(tokens), dtype=np.int64)),
        batch_size=np.array(tokens, dtype=np.int64),
    )

    with pytest.raises(FitError) as refusal:
        fit_cost(points, observed_of(np.full(len(tokens), 1e-4)))

    assert message in refusal.value.message
    assert refusal.value.hint is not None
    assert "--from" in refusal.value.hint


def test_the_fewest_points_that_are_enough_give_a_model() -> None:
    points = grid().take(np.arange(12))

    model = fit_cost(points, observed_of(law_seconds(points)), settings=QUICK)

    error = np.abs(model.seconds(points).value / law_seconds(points) - 1)
    assert np.median(error) < 0.05
    assert model.watts is None


def test_a_known_law_is_found_at_rows_that_were_left_out() -> None:
    points = many_points()
    seconds = noisy(points, 0.02)
    out = np.random.default_rng(1).random(len(points)) < 0.3
    settings = FitSettings(num_steps=300, num_rehearsal_steps=100)

    model = fit_cost(points.take(~out), observed_of(seconds[~out]), settings=settings)

    asked = points.take(out)
    error = np.abs(model.seconds(asked).value / law_seconds(asked) - 1)
    assert np.median(error) < 0.03
    assert 0.8 <= coverage(model, asked, seconds[out]) <= 0.97


def test_intervals_hold_unseen_layers_too() -> None:
    points = many_points()
    seconds = noisy(points, 0.02)
    settings = FitSettings(num_steps=300, num_rehearsal_steps=100)
    found = []
    for layer in (LAYERS[1], LAYERS[4], LAYERS[6]):
        out = points.hidden_size == layer[0]
        model = fit_cost(points.take(~out), observed_of(seconds[~out]), settings=settings)
        asked = model.seconds(points.take(out))
        assert asked.extrapolating.all()
        found.append(coverage(model, points.take(out), seconds[out]))

    assert np.mean(found) >= 0.7, found


def test_the_same_rows_give_the_same_model_bit_for_bit(measured_table: pa.Table) -> None:
    points, observed = points_from_table(measured_table), observed_from_table(measured_table)

    one, two = (fit_cost(points, observed, settings=QUICK) for _ in range(2))

    for ask in ("seconds", "joules", "average_watts"):
        first, second = getattr(one, ask)(points), getattr(two, ask)(points)
        for field in fields(first):
            assert getattr(first, field.name).tobytes() == getattr(second, field.name).tobytes(), (
                ask,
                field.name,
            )


def test_predictions_do_not_depend_on_the_order_of_the_rows(measured_table: pa.Table) -> None:
    points, observed = points_from_table(measured_table), observed_from_table(measured_table)
    order = np.random.default_rng(0).permutation(len(points))
    asked = grid(routing_pattern="uniform")

    one = fit_cost(points, observed, settings=QUICK)
    two = fit_cost(points.take(order), observed.take(order), settings=QUICK)

    np.testing.assert_allclose(two.seconds(asked).value, one.seconds(asked).value, rtol=1e-3)


def test_a_gpu_ten_times_as_slow_is_fitted_as_well() -> None:
    points = many_points().take(np.arange(0, 504, 4))
    seconds = noisy(points, 0.02)

    one, two = (
        fit_cost(
            points,
            observed_of(scale * seconds),
            settings=FitSettings(num_steps=200, num_rehearsal_steps=20),
        )
        for scale in (1.0, 10.0)
    )

    first, second = (
        np.median(np.abs(np.log(model.seconds(points).value / (scale * seconds))))
        for model, scale in ((one, 1.0), (two, 10.0))
    )
    assert first < 0.03
    assert second < 0.03


def test_a_doubted_row_pulls_less_than_one_that_is_trusted() -> None:
    points = grid()
    seconds = law_seconds(points)
    seconds[5] *= 3
    doubt = np.ones(len(points))
    doubt[5] = 0.01

    trusted, doubted = (
        fit_cost(points, observed_of(seconds), weight, QUICK).seconds(points).value[5]
        for weight in (None, doubt)
    )

    assert doubted < trusted


def test_power_is_fitted_only_where_enough_rows_have_it(measured_table: pa.Table) -> None:
    points, observed = points_from_table(measured_table), observed_from_table(measured_table)
    few = np.where(np.arange(len(points)) < 8, observed.average_watts, np.nan)
    some = np.where(np.arange(len(points)) % 2, observed.average_watts, np.nan)

    without, part = (
        fit_cost(points, replace(observed, average_watts=watts), settings=QUICK)
        for watts in (few, some)
    )

    assert without.watts is None
    assert without.joules(points) is None
    assert without.energy_bands == ()
    power = part.average_watts(points)
    assert power is not None
    error = np.abs(power.value / observed.average_watts - 1)
    assert np.median(error[np.isfinite(some)]) < 0.05


def test_where_all_rows_have_one_temperature_none_is_identified(model: CostModel) -> None:
    assert model.thermal is None
    assert "temperature" in model.provenance.not_identified
    assert model.provenance.num_rows == 72


def test_an_energy_interval_knows_that_its_seconds_are_predicted_too() -> None:
    points = many_points()
    seconds = noisy(points, 0.1)
    watts = 300 * np.exp(np.random.default_rng(2).normal(0, 0.01, len(points)))
    observed = replace(observed_of(seconds), average_watts=watts)
    out = np.random.default_rng(1).random(len(points)) < 0.3

    settings = FitSettings(num_steps=200, num_rehearsal_steps=60)
    model = fit_cost(points.take(~out), observed.take(~out), settings=settings)

    asked, joules = model.joules(points.take(out)), (watts * seconds)[out]
    assert asked is not None
    assert 0.8 <= np.mean((asked.low <= joules) & (joules <= asked.high)) <= 0.97
