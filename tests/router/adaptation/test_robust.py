"""Claims about averages that outliers do not move."""

from __future__ import annotations

import math
from statistics import median as plain_median
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moeprof.router.adaptation.robust import gain, median

if TYPE_CHECKING:
    from random import Random

VALUES = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=9)


@given(VALUES, st.randoms())
def test_the_median_is_that_of_the_values_that_are_there_in_any_order(
    values: list[float], random: Random
) -> None:
    there = [value for value in values if not math.isnan(value)]
    found = float(median(np.array([values]))[0, 0])
    random.shuffle(values)
    again = float(median(np.array([values]))[0, 0])

    if not there:
        assert math.isnan(found)
        return
    assert found == again
    assert math.isclose(found, plain_median(there), rel_tol=1e-12, abs_tol=1e-300)


@given(st.floats(1e-6, 1e6), st.integers(1, 9))
def test_the_median_of_equal_values_is_that_value(value: float, count: int) -> None:
    assert (median(np.full((2, count), value)) == value).all()


def test_gains_are_a_mean_first_and_forget_later() -> None:
    assert gain(np.array([0.0, 2.0, 18.0, 1e6]), 0.05).tolist() == [0.5, 0.25, 0.05, 0.05]
