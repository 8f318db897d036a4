from __future__ import annotations

import numpy as np
import pytest

from moeprof.cost.intervals import Errors, bands_of, bounds
from moeprof.cost.reach import Reach, Reaches


def reaches(reach: Reach, octaves: np.ndarray) -> Reaches:
    return Reaches(np.full(len(octaves), int(reach)), np.asarray(octaves, dtype=np.float64))


def errors(reach: Reach, error: np.ndarray, octaves: np.ndarray | None = None) -> Errors:
    far = np.zeros(len(error)) if octaves is None else octaves
    return Errors(reaches(reach, far), np.ones(len(error), dtype=bool), error)


def at(bands: tuple, reach: Reach, *octaves: float, decode: bool = True) -> tuple:
    far = np.array(octaves or (0.0,))
    return bounds(bands, reaches(reach, far), np.full(len(far), decode))


@pytest.mark.parametrize("reach", list(Reach))
def test_a_band_holds_90_percent_of_new_errors_of_its_kind(reach: Reach) -> None:
    draw = np.random.default_rng(int(reach))
    bands = bands_of([errors(reach, draw.normal(0, 0.1, 5000))])

    new = draw.normal(0, 0.1, 20_000)
    low, high = at(bands, reach)

    assert 0.88 < np.mean((new >= low) & (new <= high)) < 0.92
    assert np.mean(new < low) == pytest.approx(0.05, abs=0.015)
    assert np.mean(new > high) == pytest.approx(0.05, abs=0.015)


def test_errors_that_lie_mostly_on_one_side_give_a_band_that_does() -> None:
    draw = np.random.default_rng(0)
    bands = bands_of([errors(Reach.SHAPE, np.abs(draw.normal(0, 0.2, 1000)))])

    low, high = at(bands, Reach.SHAPE)

    assert low[0] == 0
    assert high[0] == pytest.approx(0.2 * 1.96, rel=0.1)


def test_regimes_have_bands_of_their_own() -> None:
    draw = np.random.default_rng(0)
    decode = np.repeat([True, False], 500)
    error = draw.normal(0, np.where(decode, 0.02, 0.2))
    bands = bands_of([Errors(reaches(Reach.CURVE, np.zeros(1000)), decode, error)])

    narrow, wide = at(bands, Reach.CURVE), at(bands, Reach.CURVE, decode=False)

    assert wide[1][0] > 5 * narrow[1][0]
    assert narrow[0][0] == pytest.approx(-0.02 * 1.645, rel=0.2)


def test_a_band_widens_with_the_distance_at_which_errors_grow() -> None:
    draw = np.random.default_rng(0)
    octaves = draw.uniform(0, 4, 2000)
    bands = bands_of([errors(Reach.CURVE, draw.normal(0, 0.01 + 0.1 * octaves), octaves)])

    low, high = at(bands, Reach.CURVE, 0.1, 1.5, 2.5, 3.9)

    assert len(bands) == 4
    assert sum(band.num_errors for band in bands) == 2000
    assert (np.diff(high) > 0).all()
    assert (np.diff(low) < 0).all()


def test_beyond_the_farthest_that_was_tried_a_band_widens_in_proportion() -> None:
    draw = np.random.default_rng(0)
    bands = bands_of([errors(Reach.BEYOND, draw.normal(0, 0.6, 200), np.full(200, 3.0))])

    low, high = at(bands, Reach.BEYOND, 3.0, 6.0, 9.0)

    np.testing.assert_allclose(high / high[0], [1, 2, 3])
    np.testing.assert_allclose(low / low[0], [1, 2, 3])


def test_beyond_what_was_measured_a_good_rehearsal_does_not_make_sure() -> None:
    draw = np.random.default_rng(0)
    bands = bands_of([errors(Reach.BEYOND, draw.normal(0, 0.01, 200), np.full(200, 3.0))])

    low, high = at(bands, Reach.BEYOND, 1.0, 2.0, 9.0)

    np.testing.assert_allclose(high, [0.2, 0.4, 0.7])
    np.testing.assert_allclose(low, [-0.2, -0.4, -0.7])


def test_a_reach_that_was_not_tried_takes_the_nearest_widened_once_per_step() -> None:
    draw = np.random.default_rng(0)
    bands = bands_of([errors(Reach.CURVE, draw.normal(0, 0.1, 200))])

    own, farther = at(bands, Reach.CURVE), at(bands, Reach.CONTEXT)

    assert farther[0][0] == pytest.approx(own[0][0] * 1.5**2)
    assert farther[1][0] == pytest.approx(own[1][0] * 1.5**2)


def test_a_nearer_reach_takes_a_farther_one_as_it_is() -> None:
    draw = np.random.default_rng(0)
    bands = bands_of([errors(Reach.KERNEL, draw.normal(0, 0.1, 200))])

    assert at(bands, Reach.CURVE) == at(bands, Reach.KERNEL)


def test_with_nothing_to_go_by_the_interval_is_half_to_twice() -> None:
    low, high = at((), Reach.SHAPE)

    assert np.exp(low[0]) == pytest.approx(0.5, abs=0.01)
    assert np.exp(high[0]) == pytest.approx(2, abs=0.02)


def test_too_few_errors_make_no_band() -> None:
    assert bands_of([errors(Reach.SHAPE, np.zeros(29))]) == ()
    assert len(bands_of([errors(Reach.SHAPE, np.zeros(30))])) == 1
    assert bands_of([]) == ()


def test_every_interval_holds_its_own_prediction() -> None:
    bands = bands_of([errors(Reach.SHAPE, np.linspace(0.3, 0.5, 100))])

    low, high = at(bands, Reach.SHAPE)

    assert low[0] == 0
    assert high[0] > 0.45
