"""Claims about when a promise counts as kept, broken, or not yet decided."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from moeprof.selfcheck.finding import (
    Promise,
    Verdict,
    of_interval,
    of_number,
    of_quantile,
    of_share,
    of_statistic,
    of_worst,
    skipped,
    told,
    worst_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

COVERAGE = Promise("coverage", "93 % to 97 %", low=0.93, high=0.97)
ERROR = Promise("error", "at most 1 %", high=0.01)


@pytest.mark.parametrize(
    ("num_hits", "num_trials", "verdict"),
    [
        (1900, 2000, Verdict.KEPT),
        (1860, 2000, Verdict.KEPT),
        (1800, 2000, Verdict.BROKEN),
        (1990, 2000, Verdict.BROKEN),
        (1856, 2000, Verdict.INCONCLUSIVE),
        (18, 20, Verdict.INCONCLUSIVE),
        (20, 20, Verdict.INCONCLUSIVE),
        (5, 20, Verdict.BROKEN),
    ],
)
def test_a_share_outside_its_bounds_is_broken_only_where_chance_cannot_be_why(
    num_hits: int, num_trials: int, verdict: Verdict
) -> None:
    assert of_share(COVERAGE, num_hits, num_trials).verdict is verdict


def test_what_no_trial_answered_is_inconclusive_and_never_kept() -> None:
    assert of_share(COVERAGE, 0, 0).verdict is Verdict.INCONCLUSIVE
    assert of_quantile(ERROR, []).verdict is Verdict.INCONCLUSIVE
    assert of_worst(ERROR, []).verdict is Verdict.INCONCLUSIVE
    assert of_statistic(ERROR, [0.1], lambda drawn: None).verdict is Verdict.INCONCLUSIVE
    assert worst_of(COVERAGE, {}).verdict is Verdict.INCONCLUSIVE


def test_a_figure_of_all_trials_is_broken_only_where_other_trials_would_break_it_too() -> None:
    def mean(drawn: Sequence[float]) -> float:
        return sum(drawn) / len(drawn)

    assert of_statistic(ERROR, [0.02, 0.021] * 50, mean).verdict is Verdict.BROKEN
    assert of_statistic(ERROR, [0.0, 0.03], mean).verdict is Verdict.INCONCLUSIVE
    assert of_statistic(ERROR, [0.0, 0.003], mean).verdict is Verdict.KEPT


def test_a_bin_that_nothing_was_counted_in_leaves_the_promise_open() -> None:
    bins = {"full": of_share(COVERAGE, 1900, 2000), "empty": of_share(COVERAGE, 0, 0)}

    found = worst_of(COVERAGE, bins)

    assert found.verdict is Verdict.INCONCLUSIVE
    assert "empty" in str(found.detail)


def test_the_worst_of_all_trials_is_broken_at_once() -> None:
    assert of_number(ERROR, 0.0101, 3).verdict is Verdict.BROKEN
    assert of_number(ERROR, 0.0100, 3).verdict is Verdict.KEPT


def test_a_quantile_is_broken_when_too_many_errors_exceed_the_bound() -> None:
    good, bad = [0.005] * 97, [0.02]

    assert of_quantile(ERROR, good + bad * 3).verdict is Verdict.KEPT
    assert of_quantile(ERROR, good + bad * 6).verdict is Verdict.INCONCLUSIVE
    assert of_quantile(ERROR, good + bad * 30).verdict is Verdict.BROKEN


def test_trials_without_an_answer_count_as_errors_and_are_no_number() -> None:
    found = of_quantile(ERROR, [0.005] * 50 + [math.inf] * 50)

    assert found.verdict is Verdict.BROKEN
    assert found.achieved is None
    assert "no answer" in str(found.detail)


def test_an_interval_beyond_a_bound_breaks_the_promise_and_one_across_it_does_not() -> None:
    assert of_interval(ERROR, 0.02, (0.015, 0.025), 9).verdict is Verdict.BROKEN
    assert of_interval(ERROR, 0.02, (0.005, 0.035), 9).verdict is Verdict.INCONCLUSIVE
    assert of_interval(ERROR, 0.005, (-0.01, 0.03), 9).verdict is Verdict.KEPT


def test_the_worst_bin_decides_and_all_bins_are_shown() -> None:
    bins = {
        "low": of_share(COVERAGE, 1900, 2000),
        "high": of_share(COVERAGE, 1700, 2000),
        "none": skipped(COVERAGE, "nothing"),
    }

    found = worst_of(COVERAGE, bins)

    assert found.verdict is Verdict.BROKEN
    assert found.achieved == 0.85
    assert found.num_trials == 4000
    assert found.by["low"] == {"achieved": 0.95, "num_trials": 2000}
    assert "high" in str(found.detail)


def test_the_worst_of_kept_bins_is_the_one_nearest_to_a_bound() -> None:
    bins = {
        "middle": of_share(COVERAGE, 1900, 2000),
        "edge": of_share(COVERAGE, 1935, 2000),
    }

    assert worst_of(COVERAGE, bins).achieved == 1935 / 2000


def test_a_told_figure_is_never_judged() -> None:
    assert told("beside", "for comparison", 9.0, 1).verdict is Verdict.TOLD
