from __future__ import annotations

import numpy as np
import pytest

from moeprof.evaluation.judge import student
from moeprof.evaluation.judge.settings import differences, ratios


def test_all_pairs_at_once_are_what_each_pair_is() -> None:
    values = np.random.default_rng(0).normal(3, 0.5, (4, 6))
    of_ratios, of_differences = ratios(values), differences(values)

    for first in range(4):
        for second in range(4):
            one, other = values[first], values[second]
            for pairs, expected in (
                (of_ratios, student.ratio(one, other, 0.9)),
                (of_differences, student.mean(one - other, 0.9)),
            ):
                estimate = pairs.estimate[first, second]
                assert expected is not None
                assert estimate == pytest.approx(expected.estimate)
                assert estimate + pairs.reach(0.9)[first, second] == pytest.approx(expected.high)


def test_one_seed_reaches_everywhere() -> None:
    assert np.isinf(ratios(np.ones((2, 1))).reach()).all()
