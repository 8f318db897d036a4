from __future__ import annotations

import math

import pytest

from moeprof.analysis.difference import difference
from moeprof.hardware import catalogue
from moeprof.record import Interval
from moeprof.selfcheck.check import random_of_trial
from moeprof.selfcheck.equal_pairs import CHECKS, Pair, judged_pairs, measured_pair
from moeprof.selfcheck.finding import Verdict

ONE_PERCENT = Interval(1.0, 0.99, 1.01, 0.95)


def scaled(interval: Interval, factor: float) -> Interval:
    return Interval(factor * interval.estimate, factor * interval.low, factor * interval.high, 0.95)


def test_a_difference_says_how_much_larger_the_second_is() -> None:
    found = difference(ONE_PERCENT, scaled(ONE_PERCENT, 1.1)).relative

    assert found.estimate == pytest.approx(0.1)
    assert found.low < 0.1 < found.high
    assert found.confidence == 0.95


def test_half_widths_add_in_quadrature_with_five_percent_to_spare() -> None:
    found = difference(ONE_PERCENT, ONE_PERCENT).relative

    assert found.high == pytest.approx(1.05 * 0.01 * math.sqrt(2), rel=0.01)
    assert found.low == pytest.approx(-1.05 * 0.01 * math.sqrt(2), rel=0.01)


def test_a_lopsided_interval_counts_on_the_side_where_it_is_wide() -> None:
    lopsided = Interval(1.0, 0.999, 1.05, 0.95)
    sharp = Interval(1.0, 0.999, 1.001, 0.95)
    second_may_be_larger = difference(sharp, lopsided).relative
    first_may_be_larger = difference(lopsided, sharp).relative

    assert second_may_be_larger.high > 0.05
    assert -0.002 < second_may_be_larger.low < 0.0
    assert first_may_be_larger.low < -0.045 < 0.0 < first_may_be_larger.high < 0.002


def test_swapping_the_two_turns_the_ratio_round() -> None:
    second = Interval(1.2, 1.15, 1.3, 0.95)
    there, back = difference(ONE_PERCENT, second).relative, difference(second, ONE_PERCENT).relative

    assert (1 + there.estimate) * (1 + back.estimate) == pytest.approx(1)
    assert (1 + there.low) * (1 + back.high) == pytest.approx(1)


def test_overlapping_is_no_difference_and_twice_the_width_is_one() -> None:
    assert not difference(ONE_PERCENT, scaled(ONE_PERCENT, 1.01)).is_different
    assert difference(ONE_PERCENT, scaled(ONE_PERCENT, 1.02)).is_different
    assert difference(ONE_PERCENT, scaled(ONE_PERCENT, 0.98)).is_different


def test_an_interval_that_claims_nothing_makes_no_difference() -> None:
    single_sample = Interval(1.5, 1.5, 1.5, 0.0)

    assert not difference(ONE_PERCENT, single_sample).is_different


def test_measuring_the_same_twice_is_seldom_called_different_and_2_percent_often() -> None:
    gpu = catalogue.gpu("h200-sxm")
    pairs = [measured_pair(gpu, random_of_trial(5, CHECKS[0].name, i)) for i in range(25)]

    assert sum(pair.is_different for pair in pairs) <= 4  # 99.9 % of draws at 5 %
    assert sum(pair.is_slower_seen for pair in pairs) >= 20


def test_too_many_false_differences_break_the_promise() -> None:
    alarms = [Pair(is_different=i % 5 == 0, is_slower_seen=True) for i in range(200)]
    finding, told = judged_pairs(alarms)

    assert finding.verdict is Verdict.BROKEN
    assert finding.achieved == pytest.approx(0.2)
    assert told.achieved == 1.0
