from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moeprof.cost import training
from moeprof.cost.network import HIGHEST, LOWEST, silu
from moeprof.cost.training import Task, train

PARTS = np.array([0, 0, 1, 2, 3])


def random_task(num_rows: int = 60) -> Task:
    draw = np.random.default_rng(1)
    return Task(
        # Exact in single precision, as training reads them.
        inputs=draw.normal(0, 1, (6, 4)).astype(np.float32).astype(np.float64),
        num_names=1,
        index=np.sort(draw.integers(0, 6, num_rows)),
        terms=draw.uniform(0, 2, (num_rows, len(PARTS))),
        log_cost=draw.normal(1, 0.5, num_rows),
        weight=draw.uniform(0.1, 1, num_rows),
        parts=PARTS,
        log_prior=np.log(np.array([1.0, 0.5, 0.25, 2.0, 1.0])).astype(np.float32),
    )


def loss(task: Task, values: list[np.ndarray]) -> float:
    """Return the loss that training is said to lower, written down a second time."""
    activations = silu(task.inputs @ values[0] + values[1])
    activations = silu(activations @ values[2] + values[3])
    seen = np.unique(task.index)
    raw = (activations @ values[4] + values[5])[seen]
    log = np.clip(raw, LOWEST, HIGHEST)
    costs = np.exp(log)[np.searchsorted(seen, task.index)] * task.terms
    sums = [costs[:, part == task.parts].sum(axis=1) for part in range(4)]
    predicted = np.log(sums[0] + np.sqrt(sum(each**2 for each in sums[1:])))
    error = np.abs(predicted - task.log_cost)
    edge = training._HUBER
    huber = np.where(error < edge, error**2 / (2 * edge), error - edge / 2)
    prior = training._TOWARDS_PRIOR * np.mean((log - task.log_prior) ** 2)
    return float(np.mean(huber * task.weight) + prior)


def test_gradients_match_finite_differences() -> None:
    task = random_task()
    draw = np.random.default_rng(2)
    values = [each.astype(np.float64) for each in training._start(task, draw)]
    rows = (task.index, task.terms, task.log_cost, task.weight)

    gradients = training._gradients(task, values, rows)

    step = 1e-6
    for place, gradient in enumerate(gradients):
        for flat in draw.integers(0, gradient.size, 6):
            where = np.unravel_index(flat, gradient.shape)
            ends = []
            for sign in (1, -1):
                moved = [each.copy() for each in values]
                moved[place][where] += sign * step
                ends.append(loss(task, moved))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert gradient[where] == pytest.approx(slope, rel=1e-4, abs=1e-8), (place, where)


def test_training_lowers_the_loss() -> None:
    task = random_task()
    start = [each.astype(np.float64) for each in training._start(task, np.random.default_rng(0))]
    found = train(task, num_steps=100, seed=0)
    pairs = zip(found.weights, found.biases, strict=True)

    assert loss(task, [each for pair in pairs for each in pair]) < 0.8 * loss(task, start)


def test_a_seed_gives_the_same_network_bit_for_bit_and_another_seed_another() -> None:
    task = random_task(5000)

    first, again, other = (train(task, num_steps=5, seed=seed) for seed in (3, 3, 4))

    for one, two, three in zip(first.weights, again.weights, other.weights, strict=True):
        assert one.tobytes() == two.tobytes()
        assert (one != three).any()


def planted_task(noise: float = 0.0) -> Task:
    """Return a launch and a bandwidth, in units of their priors: 0.5 and 2.5, in two contexts."""
    draw = np.random.default_rng(0)
    work = np.tile(np.geomspace(0.01, 100, 40), 2)
    terms = np.stack([np.ones(80), work], axis=1)
    return Task(
        inputs=np.array([[1.0], [-1.0]]),
        num_names=0,
        index=np.repeat([0, 1], 40),
        terms=terms,
        log_cost=np.log(terms @ [0.5, 2.5]) + draw.normal(0, noise, 80),
        weight=np.ones(80),
        parts=np.array([0, 2]),
        log_prior=np.zeros(2),
    )


def test_a_planted_launch_and_bandwidth_are_recovered_within_2_percent() -> None:
    task = planted_task()

    network = train(task, num_steps=800, seed=0)

    found = np.exp(network.log_coefficients(task.inputs))
    np.testing.assert_allclose(found, [[0.5, 2.5]] * 2, rtol=0.02)


def test_a_tenth_of_wild_rows_moves_the_coefficients_little() -> None:
    task = planted_task()
    wild = task.log_cost.copy()
    wild[::10] += np.log(5)

    network = train(replace(task, log_cost=wild), num_steps=800, seed=0)

    found = np.exp(network.log_coefficients(task.inputs))
    np.testing.assert_allclose(found, [[0.5, 2.5]] * 2, rtol=0.06)


def test_doubted_rows_do_not_move_the_coefficients() -> None:
    task = planted_task()
    wild = task.log_cost.copy()
    wild[::2] += np.log(5)
    weight = np.where(np.arange(80) % 2, 1.0, 1e-3)

    network = train(replace(task, log_cost=wild, weight=weight), num_steps=800, seed=0)

    found = np.exp(network.log_coefficients(task.inputs))
    np.testing.assert_allclose(found, [[0.5, 2.5]] * 2, rtol=0.03)


def test_names_begin_without_effect() -> None:
    task = random_task()
    weights = training._start(task, np.random.default_rng(0))[0]

    assert (weights[-1] == 0).all()
    assert (weights[:-1] != 0).all()


def test_the_rate_rises_to_its_greatest_and_falls_to_almost_nothing() -> None:
    rates = np.array([training._rate(each) for each in np.linspace(0, 1, 101)])

    assert rates.argmax() == 10
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[-1] < 1e-4 * rates.max()
