from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.special import ndtri

from moeprof.measure.autocorrelation import samples_per_independent_sample
from moeprof.measure.median_interval import MedianIntervalRule
from moeprof.measure.settings import StoppingSettings


def stream(
    random: np.random.Generator, size: int, *, rho: float, sigma: float, outliers: float
) -> np.ndarray:
    """Log-normal AR(1) latencies; outliers are ten times as slow."""
    fresh = random.standard_normal(size) * math.sqrt(1 - rho**2)
    fresh[0] = random.standard_normal()
    latencies = np.exp(sigma * lfilter([1.0], [1.0, -rho], fresh))
    latencies[random.random(size) < outliers] *= 10
    return latencies


def stopped_early(latencies: np.ndarray) -> MedianIntervalRule:
    rule = MedianIntervalRule(StoppingSettings())
    for latency in latencies.tolist():
        rule.add(latency)
        if rule.is_finished():
            break
    return rule


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("sigma", "outliers"), [(0.01, 0.0), (0.03, 0.01)])
def test_95_percent_intervals_cover_the_median_although_stopped_early(
    rho: float, sigma: float, outliers: float
) -> None:
    random = np.random.default_rng(7)
    truth = math.exp(sigma * ndtri(0.5 / (1 - outliers)))
    num_covered, num_streams = 0, 200
    for _ in range(num_streams):
        found = stopped_early(stream(random, 6000, rho=rho, sigma=sigma, outliers=outliers))
        interval = found.interval()
        num_covered += interval.low <= truth <= interval.high

    # 95 % of 200, give or take three standard deviations
    assert 0.904 <= num_covered / num_streams <= 0.996


def test_dependent_samples_count_as_fewer() -> None:
    random = np.random.default_rng(1)
    independent = samples_per_independent_sample(random.standard_normal(20_000))
    dependent = samples_per_independent_sample(
        stream(random, 20_000, rho=0.9, sigma=0.01, outliers=0.01)
    )

    # 1 + 2 sum of 2/pi asin(0.9^k)
    expected = 1 + 4 / math.pi * sum(math.asin(0.9**k) for k in range(1, 500))
    assert independent == pytest.approx(1, abs=0.1)
    assert dependent == pytest.approx(expected, rel=0.2)


def test_lone_outliers_do_not_hide_dependence_and_runs_of_them_are_one() -> None:
    random = np.random.default_rng(2)
    clean = stream(random, 20_000, rho=0.85, sigma=0.01, outliers=0.0)
    dirty = np.where(random.random(clean.size) < 0.02, 1.3 * clean, clean)
    independent = stream(random, 20_000, rho=0.0, sigma=0.01, outliers=0.0)
    spells = np.where(np.arange(independent.size) % 500 < 50, 1.3 * independent, independent)
    expected = samples_per_independent_sample(clean)

    assert expected > 7
    assert samples_per_independent_sample(dirty) == pytest.approx(expected, rel=0.1)
    assert samples_per_independent_sample(spells) > 3


def test_asking_twice_gives_the_interval_of_all_samples_so_far() -> None:
    rule = stopped_early(stream(np.random.default_rng(4), 6000, rho=0.3, sigma=0.02, outliers=0.0))
    at_the_look = rule.interval()
    for _ in range(len(rule._latencies)):
        rule.add(2.0)

    assert rule.interval() != at_the_look
    assert rule.interval().high == 2.0


def test_equal_samples_finish_with_an_interval_of_no_width() -> None:
    rule = stopped_early(np.full(100, 2e-4))

    assert rule.is_finished()
    assert rule.interval().low == rule.interval().high == 2e-4


def test_too_few_samples_say_how_little_they_are_worth() -> None:
    rule = MedianIntervalRule(StoppingSettings())
    for latency in (1.0, 3.0, 2.0):
        rule.add(latency)
    interval = rule.interval()

    assert (interval.low, interval.estimate, interval.high) == (1.0, 2.0, 3.0)
    assert interval.confidence == pytest.approx(0.75)
    assert not rule.is_finished()


def test_outliers_do_not_widen_the_interval() -> None:
    random = np.random.default_rng(3)
    clean = stream(random, 2000, rho=0.0, sigma=0.01, outliers=0.0)
    dirty = clean.copy()
    dirty[::50] *= 1000
    rules = []
    for latencies in (clean, dirty):
        rule = MedianIntervalRule(StoppingSettings())
        for latency in latencies.tolist():
            rule.add(latency)
        rules.append(rule.interval())

    assert rules[1].relative_half_width_fraction < 1.3 * rules[0].relative_half_width_fraction


def test_the_rule_costs_less_than_20_microseconds_a_sample() -> None:
    latencies = stream(np.random.default_rng(1), 20_000, rho=0.5, sigma=0.5, outliers=0.0).tolist()
    rule = MedianIntervalRule(StoppingSettings(relative_half_width_fraction=1e-9))
    began = time.process_time()
    for latency in latencies:
        rule.add(latency)
        rule.is_finished()

    assert (time.process_time() - began) / len(latencies) < 20e-6
