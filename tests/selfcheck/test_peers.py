from __future__ import annotations

import math

import numpy as np
import pytest

from moeprof.hardware import catalogue
from moeprof.selfcheck.against_peers import (
    CHECKS,
    TARGETS_FRACTION,
    Taken,
    judged_samples,
    taken_by_each,
)
from moeprof.selfcheck.check import random_of_trial
from moeprof.selfcheck.finding import Verdict
from moeprof.selfcheck.peers import EntropyRule, FixedTimeRule, StdrelRule, num_taken
from moeprof.selfcheck.stopping import bins


def noisy(size: int, noise: float, seconds: float = 1e-3) -> np.ndarray:
    return seconds * (1 + noise * np.random.default_rng(1).standard_normal(size))


def test_stdrel_stops_a_quiet_stream_when_half_a_second_is_over() -> None:
    assert num_taken(StdrelRule(), noisy(5000, 0.001)) == pytest.approx(500, abs=2)


def test_stdrel_stops_a_noisy_stream_on_a_plateau_at_a_multiple_of_16() -> None:
    rule = StdrelRule()
    num = num_taken(rule, noisy(5000, 0.05))

    assert 501 < num < 2000
    assert num % 16 == 0
    assert rule.interval().estimate == pytest.approx(1e-3, rel=0.01)


def test_stdrel_gives_up_after_15_seconds_of_noise_that_keeps_growing() -> None:
    growing = 1e-2 * np.exp(0.004 * np.arange(3000))

    assert np.cumsum(growing)[num_taken(StdrelRule(), growing) - 1] == pytest.approx(15, rel=0.03)


def test_the_entropy_window_is_the_one_of_a_line_fitted_afresh() -> None:
    samples = noisy(1200, 0.02)
    ticks = np.round(samples / 0.5e-6)
    entropies = []
    for num in range(1, len(ticks) + 1):
        shares = np.unique(ticks[:num], return_counts=True)[1] / num
        entropies.append(-float(shares @ np.log2(shares)))
    expected = len(samples)
    for num in range(10, len(samples) + 1, 2):
        window = np.array(entropies[max(0, num - 299) : num])
        slope, intercept = np.polyfit(np.arange(len(window)), window, 1)
        rest = window - slope * np.arange(len(window)) - intercept
        r2 = 1 - float(rest @ rest) / float(((window - window.mean()) ** 2).sum())
        if math.degrees(math.atan(slope)) <= 0.048 and r2 >= 0.36:
            expected = num
            break

    assert expected < len(samples)
    assert num_taken(EntropyRule(), samples) == expected


def test_fixed_time_takes_100_ms_and_a_reader_takes_samples_for_independent() -> None:
    samples = noisy(500, 0.01)
    rule = FixedTimeRule()
    num = num_taken(rule, samples)
    taken, interval = samples[:num], rule.interval()

    assert num == pytest.approx(100, abs=1)
    assert interval.estimate == pytest.approx(taken.mean())
    assert interval.high - interval.estimate == pytest.approx(
        1.96 * taken.std(ddof=1) / math.sqrt(num)
    )


def of_known_efficiency(factor: float, kind: str) -> list[Taken]:
    """Rules whose error is exactly 1/sqrt(n); ours needs `factor` times as many samples."""
    rows: list[Taken] = []
    for name, _ in bins():
        ours = [(target, round(1 / target), factor) for target in TARGETS_FRACTION[kind]]
        peers = [(peer, 400, 1.0) for peer in ("stdrel", "entropy", "fixed_time")]
        rows += [
            Taken(kind, name, rule, num, math.sqrt(scale / num), is_covered=True)
            for rule, num, scale in [*peers, *ours]
        ]
    return rows


def test_the_ratio_is_that_of_samples_at_equal_error() -> None:
    both = of_known_efficiency(0.3, "with outliers") + of_known_efficiency(2.0, "without outliers")
    findings = {each.name: each for each in judged_samples([both])}

    assert findings["samples_vs_stdrel"].achieved == pytest.approx(0.3, rel=1e-6)
    assert findings["samples_vs_stdrel"].verdict is Verdict.KEPT
    assert findings["samples_vs_stdrel_without_outliers"].achieved == pytest.approx(2.0, rel=1e-6)


def test_a_rule_that_needs_more_samples_breaks_the_promise() -> None:
    both = of_known_efficiency(1.5, "with outliers") + of_known_efficiency(1.0, "without outliers")
    findings = {each.name: each for each in judged_samples([both])}

    assert findings["samples_vs_stdrel"].verdict is Verdict.BROKEN
    assert findings["samples_vs_stdrel_worst_bin"].verdict is Verdict.BROKEN


def test_every_rule_hears_the_same_streams_and_every_figure_is_found() -> None:
    check = CHECKS[0]
    outcomes = [taken_by_each(catalogue.gpu("h200-sxm"), random_of_trial(1, check.name, 0))]
    findings = judged_samples(outcomes)

    assert tuple(finding.name for finding in findings) == check.figures
    assert findings[0].achieved is not None
    assert set(findings[-1].by) == {name for name, _ in bins()}
