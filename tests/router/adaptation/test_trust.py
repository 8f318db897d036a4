"""Claims about whom to believe: true telemetry always, liars not for long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moeprof.router.adaptation import (
    GpuFactors,
    GpuFactorsSettings,
    Trust,
    TrustSettings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Lie = "Callable[[np.ndarray, int, np.random.Generator], np.ndarray]"
NUM_SEEDS = 24


def told_true(ratio: np.ndarray, step: int, random: np.random.Generator) -> np.ndarray:
    return ratio


def inverted(ratio: np.ndarray, step: int, random: np.random.Generator) -> np.ndarray:
    return ratio.min(axis=-1, keepdims=True) * ratio.max(axis=-1, keepdims=True) / ratio


def shuffled(ratio: np.ndarray, step: int, random: np.random.Generator) -> np.ndarray:
    return np.roll(ratio, 1, axis=-1)


def absurd(ratio: np.ndarray, step: int, random: np.random.Generator) -> np.ndarray:
    """Draw what stays within all bounds, has nothing to do with the GPU, and never changes."""
    return np.broadcast_to(np.linspace(2.0, 0.4, ratio.shape[-1]), ratio.shape)


def random_figures(ratio: np.ndarray, step: int, random: np.random.Generator) -> np.ndarray:
    return random.uniform(0.25, 4, ratio.shape)


@dataclass
class Told:
    trust: np.ndarray
    used: np.ndarray


def serve(
    tell: Callable[[np.ndarray, int, np.random.Generator], np.ndarray],
    *,
    num_gpus: int = 4,
    num_layers: int = 8,
    noise: float = 0.02,
    speed: float = 0.85,
    heeds: bool = True,
    num_steps: int = 300,
) -> Told:
    """Serve on a cluster whose GPU 1 is slow; where a router heeds factors, it moves work."""
    random = np.random.default_rng(11)
    factors = GpuFactors(GpuFactorsSettings(), num_gpus, NUM_SEEDS)
    trust = Trust(TrustSettings(), NUM_SEEDS)
    slow = np.ones(num_gpus)
    slow[1] = 1 / speed
    used = np.ones((NUM_SEEDS, num_gpus))
    told = Told(np.empty((num_steps, NUM_SEEDS)), np.empty((num_steps, NUM_SEEDS, num_gpus)))
    for step in range(num_steps):
        expected = random.lognormal(-9, 0.3, (NUM_SEEDS, num_layers, num_gpus))
        if heeds:
            expected /= used[:, None]
        # 1.3: what the cost model has wrong for all; the rest is noise.
        truth = 1.3 * expected * slow * random.lognormal(0, noise, expected.shape)
        ratio = tell(truth[:, -1] / expected[:, -1], step, random)
        noisy = ratio * random.lognormal(0, noise, ratio.shape)
        factors.observe(noisy * expected[:, -1], expected[:, -1])
        trust.observe(truth.max(axis=-1), expected, factors.values)
        used = trust.tempered(factors.values)
        told.trust[step], told.used[step] = trust.value, used
    return told


@pytest.mark.parametrize("heeds", [False, True])
@pytest.mark.parametrize("num_gpus", [2, 4, 8])
@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_true_telemetry_is_believed(num_gpus: int, noise: float, heeds: bool) -> None:  # noqa: FBT001
    told = serve(told_true, num_gpus=num_gpus, noise=noise, heeds=heeds)

    assert told.trust[16:].mean() >= 0.99
    gap = np.log(told.used[100:, :, 1] / told.used[100:, :, 0])
    assert gap.mean() == pytest.approx(-np.log(0.85), rel=0.1)


@pytest.mark.parametrize("heeds", [False, True])
@pytest.mark.parametrize("num_gpus", [4, 8])
@pytest.mark.parametrize("lie", [inverted, shuffled, absurd])
def test_liars_are_found_within_50_steps_and_not_believed_again(
    lie: Callable[[np.ndarray, int, np.random.Generator], np.ndarray],
    num_gpus: int,
    heeds: bool,  # noqa: FBT001
) -> None:
    told = serve(lie, num_gpus=num_gpus, heeds=heeds)

    assert not told.trust[50:].any()
    assert (told.used[50:] == 1.0).all()


@pytest.mark.parametrize("num_gpus", [4, 8])
def test_random_figures_move_no_work_whether_believed_or_not(num_gpus: int) -> None:
    told = serve(random_figures, num_gpus=num_gpus)

    assert np.abs(np.log(told.used[50:])).mean() < 0.005


@pytest.mark.parametrize("tell", [told_true, inverted, shuffled])
def test_on_equal_gpus_nothing_is_at_stake(
    tell: Callable[[np.ndarray, int, np.random.Generator], np.ndarray],
) -> None:
    told = serve(tell, speed=1.0, noise=0.05)

    assert np.abs(np.log(told.used[50:])).mean() < 0.003


def test_belief_comes_back_when_lies_end() -> None:
    def repents(ratio: np.ndarray, step: int, random: np.random.Generator) -> np.ndarray:
        return inverted(ratio, step, random) if step < 150 else ratio

    told = serve(repents, num_steps=450)

    assert not told.trust[50:150].any()
    assert told.trust[350:].mean() > 0.99
    gap = np.log(told.used[350:, :, 1] / told.used[350:, :, 0])
    assert gap.mean() == pytest.approx(-np.log(0.85), rel=0.1)


def test_a_gpu_that_turns_liar_late_is_found_as_soon() -> None:
    def turns(ratio: np.ndarray, step: int, random: np.random.Generator) -> np.ndarray:
        return ratio if step < 300 else shuffled(ratio, step, random)

    told = serve(turns, num_steps=500)

    assert told.trust[16:300].mean() > 0.99
    # The factors have to turn first: 60 steps until the lie is told in full.
    assert not told.trust[400:].any()


def test_without_factors_there_is_nothing_to_doubt() -> None:
    random = np.random.default_rng(0)
    trust = Trust(TrustSettings(), 3)
    for _ in range(200):
        trust.observe(
            random.lognormal(-9, 1, (3, 2)), random.lognormal(-9, 1, (3, 2, 4)), np.ones((3, 4))
        )

        assert trust.value.tolist() == [1.0, 1.0, 1.0]


def test_factors_are_used_as_they_are_or_not_at_all() -> None:
    trust = Trust(TrustSettings(), 2)
    factors = np.array([[1.1, 0.9, 1.0], [1.1, 0.9, 1.0]])
    # The first seed's clock agrees with the factors, the second's with none.
    random = np.random.default_rng(0)
    for _ in range(100):
        expected = random.lognormal(-9, 0.3, (2, 4, 3))
        measured = np.stack([(expected[0] * factors[0]).max(-1), expected[1].max(-1)])
        trust.observe(measured, expected, factors)

    assert trust.value.tolist() == [1.0, 0.0]
    assert trust.tempered(factors).tolist() == [[1.1, 0.9, 1.0], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 0.0, -1.0])
def test_a_clock_that_tells_rubbish_changes_nothing(rubbish: float) -> None:
    random = np.random.default_rng(0)
    plain, teased = Trust(TrustSettings()), Trust(TrustSettings())
    factors = np.array([[1.2, 1.0, 0.9]])
    for _ in range(40):
        expected = random.lognormal(-9, 0.3, (1, 4, 3))
        measured = expected.max(axis=-1)
        for trust in (plain, teased):
            trust.observe(measured, expected, factors)
        teased.observe(np.full((1, 4), rubbish), expected, factors)
        teased.observe(measured, np.zeros((1, 4, 3)), factors)

        assert np.array_equal(plain._against, teased._against)
        assert np.array_equal(plain._scale, teased._scale)


def test_pauses_of_the_host_are_no_evidence() -> None:
    random = np.random.default_rng(0)
    trust = Trust(TrustSettings(), 20)
    factors = np.tile([1.0, 1 / 0.85, 1.0, 1.0], (20, 1))
    for _ in range(1000):
        expected = random.lognormal(-9, 0.3, (20, 4, 4))
        measured = (expected * factors[:, None]).max(axis=-1)
        measured *= random.lognormal(0, 0.03, measured.shape)
        measured[random.random(measured.shape) < 0.05] *= 100
        trust.observe(measured, expected, factors)

        assert trust.value.all()


def test_seeds_do_not_touch_each_other() -> None:
    random = np.random.default_rng(0)
    together, alone = Trust(TrustSettings(), 3), [Trust(TrustSettings()) for _ in range(3)]
    for _ in range(40):
        expected = random.lognormal(-9, 0.3, (3, 2, 4))
        measured = expected.max(axis=-1) * random.lognormal(0, 0.1, (3, 2))
        factors = random.uniform(0.8, 1.2, (3, 4))
        together.observe(measured, expected, factors)
        for seed, trust in enumerate(alone):
            only = slice(seed, seed + 1)
            trust.observe(measured[only], expected[only], factors[only])

    assert np.array_equal(together._against, [trust._against[0] for trust in alone])
