from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from cost.tables import grid, law_seconds, row, table

from moeprof.cost.assess import OWN_NAME, Peers, assess, default_holdout
from moeprof.cost.fit import FitSettings, fit_cost
from moeprof.cost.held_out import Judged, Rows, held_out, model_method
from moeprof.cost.holdout import Holdout, splits
from moeprof.cost.noise import noise_study, with_noise
from moeprof.cost.points import Observed, points_from_table
from moeprof.cost.provenance import not_identified
from moeprof.errors import FitError

if TYPE_CHECKING:
    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Points

QUICK = FitSettings(num_steps=20, num_rehearsal_steps=5)


def quick_fit(rows: Rows) -> CostModel:
    return fit_cost(rows.points, rows.observed, rows.weight, QUICK)


def rows_of(points: Points, *, watts: bool = False) -> Rows:
    seconds = law_seconds(points)
    power = 300 + 100 * np.log2(points.batch_size) if watts else np.full(len(points), np.nan)
    observed = Observed(seconds, 0.99 * seconds, 1.01 * seconds, power, power * seconds)
    return Rows(points, observed, np.ones(len(points)))


def test_every_method_is_judged_on_the_same_rows_and_none_is_left_out() -> None:
    found = assess(rows_of(grid()), quick_fit, holdout=Holdout.SHAPE, seed=0)

    assert list(found.methods) == [
        OWN_NAME,
        "roofline_datasheet",
        "roofline_fitted",
        "random_forest",
        "token_interpolation",
        "lightgbm",
    ]
    assert found.num_splits == 4
    assert {each[Judged.LATENCY]["all"].num_rows for each in found.methods.values()} == {48}
    assert {each[Judged.LATENCY]["decode"].num_rows for each in found.methods.values()} == {36}
    assert not found.failed


def test_only_the_model_has_intervals() -> None:
    found = assess(rows_of(grid()), quick_fit, holdout=Holdout.RANDOM, seed=0, peers=Peers.FAST)

    assert "random_forest" not in found.methods
    coverages = {
        name: each[Judged.LATENCY]["all"].interval_coverage_fraction
        for name, each in found.methods.items()
    }
    assert coverages.pop(OWN_NAME) is not None
    assert set(coverages.values()) == {None}


def test_power_and_energy_are_judged_where_there_are_any() -> None:
    rows = rows_of(grid(), watts=True)

    found = assess(rows, quick_fit, holdout=Holdout.TOKENS, seed=0, peers=Peers.FAST).methods

    assert set(found[OWN_NAME]) == {Judged.LATENCY, Judged.POWER, Judged.ENERGY}
    assert set(found["token_interpolation"]) == {Judged.LATENCY, Judged.POWER, Judged.ENERGY}
    assert set(found["roofline_fitted"]) == {Judged.LATENCY}


def test_a_peer_that_cannot_be_fitted_is_named_with_its_reason() -> None:
    rows = rows_of(grid(device_kind="cpu", device_name="Some CPU"))
    rows.observed.latency_seconds[:] = 1e-6 * rows.points.batch_size + 1e-5

    found = assess(rows, quick_fit, holdout=Holdout.RANDOM, seed=0)

    assert OWN_NAME in found.methods
    assert set(found.failed) >= {"roofline_datasheet", "roofline_fitted"}
    assert not set(found.failed) & set(found.methods)
    assert "'cpu'" in found.failed["roofline_fitted"]


def test_a_split_that_leaves_too_little_is_refused_by_its_name() -> None:
    few = rows_of(grid().take(np.arange(12)))

    with pytest.raises(FitError, match="held out random: a cost model needs at least 12"):
        assess(few, quick_fit, holdout=Holdout.RANDOM, seed=0, peers=Peers.NONE)


def test_nothing_is_judged_where_nothing_is_held_out() -> None:
    found = assess(rows_of(grid()), quick_fit, holdout=Holdout.NONE, seed=0)

    assert found.methods == {}
    assert found.num_splits == 0


def test_every_fit_is_told_of_before_it_begins() -> None:
    told = []
    rows = rows_of(grid())

    assess(
        rows,
        quick_fit,
        holdout=Holdout.SHAPE,
        seed=0,
        peers=Peers.NONE,
        on_step=lambda *step: told.append(step),
    )

    assert told == [(OWN_NAME, f"shape {fold}", fold, 4) for fold in range(4)]


@pytest.mark.parametrize(
    ("widths", "tokens", "holdout"),
    [
        (range(1, 6), (1, 2), Holdout.SHAPE),
        (range(1, 5), (1, 2, 4, 8, 16), Holdout.TOKENS),
        (range(1, 5), (1, 2, 4, 8), Holdout.RANDOM),
    ],
)
def test_the_hardest_that_the_rows_allow_is_held_out(
    widths: range, tokens: tuple[int, ...], holdout: Holdout
) -> None:
    rows = [row(hidden_size=512 * step, batch_size=each) for step in widths for each in tokens]

    assert default_holdout(points_from_table(table(rows))) is holdout


def test_predictions_stand_at_the_rows_that_were_held_out_and_nowhere_else() -> None:
    rows = rows_of(grid())
    parts = splits(rows.points, Holdout.TOKENS, 0)

    found = held_out(model_method(quick_fit), rows, parts, lambda _: None)

    value, low, high = found.predicted[Judged.LATENCY]
    assert (np.isfinite(value) == found.test).all()
    assert (low[found.test] <= value[found.test]).all()
    assert (value[found.test] <= high[found.test]).all()


def test_noise_has_its_declared_size_and_keeps_power_times_time_energy() -> None:
    points = points_from_table(table([row()] * 4000))
    rows = rows_of(points, watts=True)

    noisy = with_noise(rows.observed, 0.1, seed=3)

    ratios = noisy.latency_seconds / rows.observed.latency_seconds
    assert np.std(ratios) == pytest.approx(0.1, rel=0.05)
    assert np.median(ratios) == pytest.approx(1, abs=0.01)
    assert np.std(noisy.energy_joules / rows.observed.energy_joules) == pytest.approx(0.1, rel=0.05)
    assert noisy.average_watts * noisy.latency_seconds == pytest.approx(noisy.energy_joules)
    assert with_noise(rows.observed, 0.0, 3).latency_seconds.tolist() == (
        rows.observed.latency_seconds.tolist()
    )


def test_a_noise_study_judges_each_level_against_clean_and_noisy_rows() -> None:
    rows = rows_of(grid())

    clean, noisy = noise_study(rows, quick_fit, (0.0, 0.3), holdout=Holdout.RANDOM, seed=0)

    assert clean.against_clean == clean.against_noisy
    own, other = (
        each[Judged.LATENCY]["all"] for each in (noisy.against_clean, noisy.against_noisy)
    )
    assert own.num_rows == other.num_rows
    assert own.median_ape_fraction > clean.against_clean[Judged.LATENCY]["all"].median_ape_fraction
    assert own.median_ape_fraction != other.median_ape_fraction


def test_what_the_rows_cannot_tell_is_listed() -> None:
    points = grid()

    assert not_identified(points, has_thermal=False, has_watts=False) == (
        "temperature",
        "clock",
        "power",
        "power limit",
    )
    assert not_identified(points, has_thermal=True, has_watts=True) == ("clock", "power limit")
