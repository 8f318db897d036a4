from __future__ import annotations

import math
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moeprof.hardware import catalogue
from moeprof.measure.median_interval import MedianIntervalRule
from moeprof.record import Interval
from moeprof.selfcheck.check import random_of_trial
from moeprof.selfcheck.finding import Verdict
from moeprof.selfcheck.stopping import (
    CHECKS,
    Covered,
    covered_streams,
    covered_unsteady_streams,
    judged_coverage,
    judged_unsteady,
)
from moeprof.selfcheck.streams import Process, drawn_levels, drawn_process

if TYPE_CHECKING:
    from moeprof.measure.settings import StoppingSettings

GPU = catalogue.gpu("h200-sxm")
PROCESS = Process(
    sample_seconds=1e-3,
    noise_fraction=0.01,
    carry_fraction=0.7,
    outliers_fraction=0.02,
    outlier_extra_fraction=0.5,
)


class NaiveRule(MedianIntervalRule):
    """The interval of independent samples, looked at after every tenth one."""

    def __init__(self, settings: StoppingSettings) -> None:
        super().__init__(settings)
        self._target = settings.relative_half_width_fraction

    def is_finished(self) -> bool:
        num = len(self._latencies)
        return (
            num >= 20
            and num % 10 == 0
            and self._naive().relative_half_width_fraction < (self._target)
        )

    def conclude(self) -> bool:
        return self.is_finished()

    def _naive(self) -> Interval:
        ordered = sorted(self._latencies)
        middle, half = (len(ordered) - 1) / 2, 1.96 * math.sqrt(len(ordered)) / 2
        low, high = ordered[math.floor(middle - half)], ordered[math.ceil(middle + half)]
        return Interval(median(ordered), low, high, 0.95)

    def interval(self) -> Interval:
        return self._naive()


def test_the_true_median_and_mean_are_those_of_many_samples() -> None:
    samples = PROCESS.samples(np.random.default_rng(3), 1_000_000)

    assert np.median(samples) == pytest.approx(PROCESS.median_seconds, rel=1e-4)
    assert np.mean(samples) == pytest.approx(PROCESS.mean_seconds, rel=2e-4)
    assert PROCESS.median_seconds > 1e-3  # outliers push it up


def test_samples_depend_on_each_other_as_the_process_says() -> None:
    process = replace(PROCESS, outliers_fraction=0.0)
    logs = np.log(process.samples(np.random.default_rng(3), 200_000))

    assert np.corrcoef(logs[1:], logs[:-1])[0, 1] == pytest.approx(0.7, abs=0.01)
    assert logs.std() == pytest.approx(0.01, rel=0.02)


def test_the_truth_of_an_unsteady_stream_is_the_median_of_all_its_samples() -> None:
    random = np.random.default_rng(5)
    levels = drawn_levels(random, 200_000, 300_000)
    samples = PROCESS.samples(random, 300_000) * levels

    assert np.ptp(levels) >= 0.002
    assert np.median(samples) == pytest.approx(PROCESS.median_of_changing(levels), rel=2e-4)


def test_a_trial_is_the_same_whenever_it_is_tried() -> None:
    check = CHECKS[0]
    trials = [check.trial(GPU, random_of_trial(1, check.name, 3)) for _ in range(2)]

    assert trials[0] == trials[1]
    assert trials[0] != check.trial(GPU, random_of_trial(2, check.name, 3))


def test_every_bin_of_dependence_is_tried_equally_often() -> None:
    streams = covered_streams(GPU, np.random.default_rng(1))
    bins = [stream.carry_bin for stream in streams]

    assert len(set(bins)) == 5
    assert {bins.count(name) for name in bins} == {4}
    assert drawn_process(GPU, np.random.default_rng(1), (0.8, 0.9)).carry_fraction >= 0.8


def test_our_intervals_keep_their_promise_and_naive_ones_are_caught() -> None:
    outcomes = [covered_streams(GPU, np.random.default_rng([9, i])) for i in range(12)]
    naive = [covered_streams(GPU, np.random.default_rng([9, i]), NaiveRule) for i in range(12)]
    ours, overall = judged_coverage(outcomes)
    caught, _ = judged_coverage(naive)

    assert ours.verdict is not Verdict.BROKEN
    assert overall.achieved == pytest.approx(0.95, abs=0.042)  # three standard errors
    assert caught.verdict is Verdict.BROKEN
    assert caught.detail == "worst: 0.8 to 0.9"


def test_intervals_that_always_cover_are_caught_too() -> None:
    outcomes = [[Covered("0 to 0.2", "noise about the width", is_covered=True)] * 400]

    assert judged_coverage(outcomes)[0].verdict is Verdict.BROKEN


def test_unsteady_streams_are_covered_and_misses_are_counted() -> None:
    outcomes = [covered_unsteady_streams(GPU, np.random.default_rng([4, i])) for i in range(8)]
    missed = [[replace(stream, is_covered=False) for stream in each] for each in outcomes]

    assert judged_unsteady(outcomes)[0].verdict is not Verdict.BROKEN
    assert judged_unsteady(missed)[0].verdict is Verdict.BROKEN
