"""Claims about lambda: it finds the budget, keeps it, and finds it again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeprof.router.adaptation import DualAscent, DualAscentSettings


def mass(lam: np.ndarray, half: float = 4.0, most: float = 0.4) -> np.ndarray:
    """Mass that is kept, falling from 1 to 1 - most; half of the fall at lambda = half."""
    return 1 - most * lam / (lam + half)


def lambda_at(kept: float, half: float = 4.0, most: float = 0.4) -> float:
    """Return where `mass` is `kept`: most · l / (l + half) = 1 - kept."""
    lost = 1 - kept
    return lost * half / (most - lost)


def test_the_first_step_by_hand() -> None:
    ascent = DualAscent(DualAscentSettings(gate_mass_fraction=0.9, first_step_octaves=2.0))

    ascent.observe(gate_mass_fraction=0.95)

    # Slack is (0.95 - 0.9) / 0.1 = 1/2, one of two octaves: lambda doubles.
    np.testing.assert_allclose(ascent.value, [0.2])


@pytest.mark.parametrize("half", [0.05, 4.0, 100.0])
def test_lambda_finds_where_the_budget_is_just_spent(half: float) -> None:
    ascent = DualAscent(DualAscentSettings(gate_mass_fraction=0.9))
    for _ in range(300):
        ascent.observe(gate_mass_fraction=mass(ascent.value, half))

    np.testing.assert_allclose(ascent.value, lambda_at(0.9, half), rtol=0.01)


def test_the_budget_is_found_within_the_settling_steps_of_a_short_scene() -> None:
    ascent = DualAscent(DualAscentSettings(gate_mass_fraction=0.9))
    kept = []
    for _ in range(32):
        kept.append(float(mass(ascent.value)[0]))
        ascent.observe(gate_mass_fraction=kept[-1])

    assert kept[-1] == pytest.approx(0.9, abs=0.01)


def test_after_a_change_90_percent_of_the_way_takes_at_most_200_steps() -> None:
    ascent = DualAscent(DualAscentSettings(gate_mass_fraction=0.9))
    for _ in range(1000):
        ascent.observe(gate_mass_fraction=mass(ascent.value, 4.0))
    before = np.log(ascent.value[0])
    for _ in range(200):
        ascent.observe(gate_mass_fraction=mass(ascent.value, 1.0))

    new = np.log(lambda_at(0.9, 1.0))
    assert abs(np.log(ascent.value[0]) - new) < 0.1 * abs(before - new)


def test_noise_of_many_budgets_leaves_the_mean_on_the_budget() -> None:
    settings = DualAscentSettings(gate_mass_fraction=None, cross_entropy_nats=0.01)
    ascent, random = DualAscent(settings, 8), np.random.default_rng(1)
    losses = []
    for _ in range(8000):
        loss = 0.04 * ascent.value / (ascent.value + 4)
        losses.append(loss)
        ascent.observe(loss_difference_nats=loss + random.normal(0, 0.04, 8))

    assert np.mean(losses[1000:]) == pytest.approx(0.01, rel=0.05)
    assert np.std(losses[1000:]) < 0.003


def run_without_end(num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log2 of lambda of two seeds at 2,000 moments of the first and the last tenth."""
    ascent = DualAscent(DualAscentSettings(gate_mass_fraction=0.9), 2)
    random = np.random.default_rng(3)
    every = num_steps // 20_000
    first, last = [], []
    for step in range(num_steps):
        kept = mass(ascent.value) + random.normal(0, 0.02, 2)
        kept[random.random(2) < 0.1] = np.nan
        ascent.observe(gate_mass_fraction=kept)
        if step % every == 0 and not num_steps // 10 < step < num_steps * 9 // 10:
            (first if step <= num_steps // 10 else last).append(np.log2(ascent.value))
    return np.array(first[200:]), np.array(last)


@pytest.mark.parametrize("num_steps", [20_000, pytest.param(10**6, marks=pytest.mark.slow)])
def test_lambda_does_not_drift(num_steps: int) -> None:
    first, last = run_without_end(num_steps)

    optimum = np.log2(lambda_at(0.9))
    assert abs(last.mean() - optimum) < 0.05
    assert abs(last.mean() - first.mean()) < 0.05
    assert np.abs(last - optimum).max() < 1


@given(st.lists(st.sampled_from([None, np.nan, np.inf, -np.inf]), max_size=6))
def test_what_is_no_number_changes_nothing(observed: list[float | None]) -> None:
    settings = DualAscentSettings(cross_entropy_nats=0.01)
    plain, teased = DualAscent(settings), DualAscent(settings)
    for _ in range(5):
        for ascent in (plain, teased):
            ascent.observe(gate_mass_fraction=0.97, loss_difference_nats=0.002)
        for value in observed:
            teased.observe(gate_mass_fraction=value, loss_difference_nats=value)

    assert np.array_equal(plain.value, teased.value)


def test_one_absurd_number_is_worth_little() -> None:
    ascent = DualAscent(DualAscentSettings(gate_mass_fraction=0.9))
    for _ in range(500):
        ascent.observe(gate_mass_fraction=mass(ascent.value))
    before = ascent.value[0]
    ascent.observe(gate_mass_fraction=-1e300)

    assert 0.7 * before < ascent.value[0] < before
    for _ in range(200):
        ascent.observe(gate_mass_fraction=mass(ascent.value))
    assert ascent.value[0] == pytest.approx(before, rel=0.02)


def test_lambda_stays_within_its_bounds_and_comes_back() -> None:
    settings = DualAscentSettings(gate_mass_fraction=0.9)
    ascent = DualAscent(settings)
    for _ in range(2000):
        ascent.observe(gate_mass_fraction=1.0)
    assert ascent.value[0] == pytest.approx(settings.lambda_max)

    for _ in range(2000):
        ascent.observe(gate_mass_fraction=0.0)
    assert ascent.value[0] == 0.0

    for _ in range(600):
        ascent.observe(gate_mass_fraction=mass(ascent.value))
    assert ascent.value[0] == pytest.approx(lambda_at(0.9), rel=0.02)


def test_a_budget_of_nothing_ends_at_zero_where_anything_is_lost() -> None:
    ascent = DualAscent(DualAscentSettings(gate_mass_fraction=1.0))
    for _ in range(2000):
        ascent.observe(gate_mass_fraction=mass(ascent.value))

    assert ascent.value[0] == 0.0


def test_the_stricter_budget_holds_whichever_it_is() -> None:
    settings = DualAscentSettings(gate_mass_fraction=0.9, cross_entropy_nats=0.01)
    for nats_per_mass, kept in ((0.05, 0.9), (0.2, 0.95)):  # 0.01 nats are 0.2 or 0.05 of mass
        ascent = DualAscent(settings)
        for _ in range(500):
            now = mass(ascent.value)
            ascent.observe(gate_mass_fraction=now, loss_difference_nats=nats_per_mass * (1 - now))
        np.testing.assert_allclose(mass(ascent.value), kept, atol=0.002)


def test_the_other_budget_takes_over_soon() -> None:
    ascent = DualAscent(DualAscentSettings(gate_mass_fraction=0.9, cross_entropy_nats=0.01))
    for step in range(3200):
        per_mass = 0.05 if step < 3000 else 0.2
        now = mass(ascent.value)
        ascent.observe(gate_mass_fraction=now, loss_difference_nats=per_mass * (1 - now))

    np.testing.assert_allclose(mass(ascent.value), 0.95, atol=0.003)


def test_a_budget_that_nobody_observes_does_not_bind() -> None:
    one, both = (
        DualAscent(DualAscentSettings(gate_mass_fraction=0.9, cross_entropy_nats=nats))
        for nats in (None, 0.01)
    )
    for _ in range(100):
        one.observe(gate_mass_fraction=mass(one.value))
        both.observe(gate_mass_fraction=mass(both.value))

    assert np.array_equal(one.value, both.value)


def test_seeds_do_not_touch_each_other() -> None:
    random = np.random.default_rng(0)
    kept = random.uniform(0.8, 1.0, (50, 3))
    together = DualAscent(DualAscentSettings(), 3)
    alone = [DualAscent(DualAscentSettings()) for _ in range(3)]
    for row in kept:
        together.observe(gate_mass_fraction=row)
        for ascent, value in zip(alone, row, strict=True):
            ascent.observe(gate_mass_fraction=value)

    assert np.array_equal(together.value, [ascent.value[0] for ascent in alone])
