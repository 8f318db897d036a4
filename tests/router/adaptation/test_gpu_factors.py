"""Claims about the factors of GPUs: found soon, kept, unmoved by rubbish."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.router.adaptation import GpuFactors, GpuFactorsSettings

SLOW = 1 / 0.85
RUBBISH = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e9, 1e-12, -1e9])


def factors(num_gpus: int = 4, num_seeds: int = 1) -> GpuFactors:
    return GpuFactors(GpuFactorsSettings(), num_gpus, num_seeds)


def rows(random: np.random.Generator, num_seeds: int, num_gpus: int) -> np.ndarray:
    """Draw what is expected of each GPU's rows."""
    return random.lognormal(-9, 0.3, (num_seeds, num_gpus))


def relative(values: np.ndarray) -> np.ndarray:
    return values / np.median(values, axis=-1, keepdims=True)


def test_the_first_observation_by_hand() -> None:
    one = factors(3)
    expected = np.full((1, 3), 1e-4)

    one.observe(expected * np.exp([[0.1, 0.1, 0.3]]), expected)

    # The median 0.1 is taken out; the gain of a first one is 1/2, the clip 3 · 0.1 lets 0.2 pass:
    # log 0.1. sigma is 0.1 + (1.2533 · 0.2 - 0.1) / 2 = 0.17533, its doubt 2 · 0.17533² / 3 is
    # above 0.1²: nothing is believed yet.
    assert one.values.tolist() == [[1.0, 1.0, 1.0]]

    one.observe(expected * np.exp([[0.1, 0.1, 0.3]]), expected)

    # Innovation 0.1 at gain 1/3: log 0.1333; sigma 0.17533 + (0.12533 - 0.17533) / 3 = 0.15866;
    # doubt 2 · 0.15866² / 4 = 0.012587 of 0.017778: 1 - 0.70800 of the log stays.
    np.testing.assert_allclose(one.values, np.exp([[0, 0, 0.29200 * 0.13333]]), rtol=1e-5)


@pytest.mark.parametrize("num_gpus", [2, 3, 4, 8])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_a_slow_gpu_is_known_within_16_observations(num_gpus: int, noise: float) -> None:
    random = np.random.default_rng(num_gpus)
    one = factors(num_gpus, 50)
    truth = np.ones(num_gpus)
    truth[1] = SLOW
    for _ in range(16):
        expected = rows(random, 50, num_gpus)
        one.observe(expected * 1.7 * truth * random.lognormal(0, noise, expected.shape), expected)

    logs = np.log(one.values)
    gap = logs[:, 1] - logs[:, 0]
    assert np.median(gap) == pytest.approx(np.log(SLOW), rel=0.15)


@pytest.mark.parametrize("spoilt", [0.0, 0.3])
def test_a_change_is_followed_by_90_percent_within_200_steps(spoilt: float) -> None:
    random = np.random.default_rng(0)
    one = factors(4, 40)
    truth = np.ones(4)
    late = []
    for step in range(700):
        if step == 500:
            truth[2] = SLOW
        expected = rows(random, 40, 4)
        told = expected * truth * random.lognormal(0, 0.03, expected.shape)
        bad = random.random(told.shape) < spoilt
        told[bad] = random.choice(RUBBISH, bad.sum())
        one.observe(told, expected)
        if step >= 690:
            late.append(np.log(one.values))
    after = np.mean(late, axis=0)

    assert (after[:, 2] - after[:, 0] > 0.9 * np.log(SLOW)).mean() > 0.95
    assert np.median(after[:, 2]) == pytest.approx(np.log(SLOW), rel=0.05)
    assert np.abs(np.median(after[:, [0, 1, 3]])) < 0.002


@pytest.mark.parametrize("num_gpus", [2, 4, 8])
def test_rubbish_moves_nothing(num_gpus: int) -> None:
    """A tenth lost, a tenth NaN, a tenth absurd: the same factors as without."""
    random = np.random.default_rng(1)
    clean, spoilt = factors(num_gpus, 30), factors(num_gpus, 30)
    truth = np.ones(num_gpus)
    truth[0] = SLOW
    gaps = []
    for step in range(600):
        expected = rows(random, 30, num_gpus)
        told = expected * truth * random.lognormal(0, 0.02, expected.shape)
        clean.observe(told, expected)
        bad = random.random(told.shape) < 0.3
        told[bad] = random.choice(RUBBISH, bad.sum())
        spoilt.observe(told, expected)
        if step > 300:
            gaps.append(np.log(spoilt.values / clean.values))

    assert np.abs(np.mean(gaps)) < 0.001
    assert np.abs(gaps).max() < 0.05


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_a_gpu_that_tells_only_rubbish_keeps_its_factor(rubbish: float) -> None:
    good = np.full((1, 4), 1e-4)
    bad = np.array([[1e-4, rubbish, 1e-4, 1e-4]])
    for measured, expected in ((bad, good), (good, bad)):
        one = factors()
        for _ in range(30):
            one.observe(good * [[1.0, 1.2, 1.0, 1.0]], good)
        before = one.values
        for _ in range(30):
            one.observe(measured, expected)

        assert one.values.tolist() == before.tolist()


@pytest.mark.parametrize("age_seconds", [np.nan, np.inf, 1.0])
def test_a_reading_of_unknown_or_great_age_keeps_the_factor(age_seconds: float) -> None:
    good = np.full((1, 4), 1e-4)
    one = factors()
    for _ in range(30):
        one.observe(good * [[1.0, 1.2, 1.0, 1.0]], good)
    before = one.values
    for _ in range(30):
        one.observe(good, good, np.array([[0.0, age_seconds, 0.0, 0.0]]))

    assert one.values.tolist() == before.tolist()


def test_absurd_but_possible_outliers_move_little() -> None:
    random = np.random.default_rng(2)
    one = factors(4, 50)
    for _ in range(500):
        expected = rows(random, 50, 4)
        told = expected * random.lognormal(0, 0.02, expected.shape)
        told[random.random(told.shape) < 0.1] *= 3
        one.observe(told, expected)

    assert np.abs(np.log(one.values)).max() < 0.03


@given(
    seed=st.integers(0, 10_000),
    num_gpus=st.integers(1, 9),
    lost=st.floats(0, 0.9),
)
@settings(max_examples=60, deadline=None)
def test_equal_ratios_are_exactly_1_whatever_is_missing(
    seed: int, num_gpus: int, lost: float
) -> None:
    random = np.random.default_rng(seed)
    one = factors(num_gpus, 2)
    for _ in range(20):
        measured = np.repeat(random.lognormal(-9, 1, (2, 1)), num_gpus, axis=1)
        expected = np.repeat(random.lognormal(-9, 1, (2, 1)), num_gpus, axis=1)
        measured[random.random(measured.shape) < lost] = np.nan
        one.observe(measured, expected, random.uniform(0, 1.2, measured.shape))

        assert (one.values == 1.0).all()


@given(seed=st.integers(0, 10_000), num_gpus=st.integers(2, 9))
@settings(max_examples=40, deadline=None)
def test_numbering_gpus_otherwise_numbers_factors_otherwise(seed: int, num_gpus: int) -> None:
    random = np.random.default_rng(seed)
    order = random.permutation(num_gpus)
    one, other = factors(num_gpus), factors(num_gpus)
    for _ in range(25):
        expected = rows(random, 1, num_gpus)
        told = expected * random.lognormal(0, 0.2, expected.shape)
        bad = random.random(told.shape) < 0.2
        told[bad] = random.choice(RUBBISH, bad.sum())
        age = random.uniform(0, 1.2, told.shape)
        one.observe(told, expected, age)
        other.observe(told[:, order], expected[:, order], age[:, order])

    assert np.array_equal(one.values[:, order], other.values)


@pytest.mark.parametrize(("truth", "least"), [(3.9, 3.8), (15.0, 3.0)])
def test_factors_stay_within_a_quarter_and_four(truth: float, least: float) -> None:
    one = factors(5)
    expected = np.full((1, 5), 1e-4)
    for _ in range(500):
        one.observe(expected * [[truth, 1 / truth, 1.0, 1.0, 1.0]], expected)

        assert 0.25 <= one.values.min() <= 1.0 <= one.values.max() <= 4.0
    assert one.values.max() > least
    assert one.values.min() < 1 / least


def test_late_readings_count_less_and_then_not_at_all() -> None:
    reached = []
    for age in (0.0, 0.5, 0.75, 1.0, 50.0):
        one = factors(3)
        expected = np.full((1, 3), 1e-4)
        for _ in range(6):
            one.observe(expected * [[1.2, 1.0, 1.0]], expected, np.full((1, 3), age))
        reached.append(one.values[0, 0])

    assert reached[0] == reached[1] > reached[2] > reached[3] == reached[4] == 1.0


def test_equal_gpus_with_noise_are_mostly_exactly_equal() -> None:
    random = np.random.default_rng(0)
    one = factors(8, 50)
    seen = []
    for step in range(400):
        expected = rows(random, 50, 8)
        one.observe(expected * random.lognormal(0, 0.05, expected.shape), expected)
        if step > 50:
            seen.append(one.values)

    assert np.mean(np.array(seen) == 1.0) > 0.8
    assert np.abs(np.log(seen)).mean() < 0.002


@pytest.mark.parametrize("num_steps", [5_000, pytest.param(10**6, marks=pytest.mark.slow)])
def test_factors_do_not_drift(num_steps: int) -> None:
    random = np.random.default_rng(0)
    one = factors(4)
    truth = np.array([1.0, SLOW, 1.0, 0.9])
    sums = np.zeros((1, 4))
    farthest = 0.0
    for step in range(num_steps):
        expected = rows(random, 1, 4)
        told = expected * truth * (1 + 0.02 * random.standard_normal((1, 4)))
        told[random.random((1, 4)) < 0.1] = np.nan
        one.observe(told, expected)
        if step >= num_steps // 2:
            off = np.log(one.values / truth)
            sums += off
            farthest = max(farthest, float(np.abs(off - off.mean()).max()))

    assert np.abs(sums / (num_steps - num_steps // 2)).max() < 0.005
    assert farthest < 0.06


def test_watts_are_learnt_as_seconds_are() -> None:
    one = factors(4)
    expected = np.full((1, 4), 400.0)
    for _ in range(200):
        one.observe(expected * [[1.0, 1.1, 1.0, 1.0]], expected)

    np.testing.assert_allclose(one.values, [[1.0, 1.1, 1.0, 1.0]], rtol=2e-3)
