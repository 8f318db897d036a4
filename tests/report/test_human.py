from __future__ import annotations

import pytest

from moeprof.report import human


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (0.000285, "285 µs"),
        (0.0123456, "12.3 ms"),
        (2.0, "2.00 s"),
        (5e-10, "0.50 ns"),
        (0.0, "0.00 ns"),
    ],
)
def test_a_short_time_has_three_digits_and_a_fitting_unit(value: float | None, words: str) -> None:
    assert human.seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(4.8e12, "4.80 TB/s"), (9.9e3, "9.90 kB/s"), (12.0, "12.0 B/s"), (None, "-")],
)
def test_a_large_quantity_has_a_prefix(value: float | None, words: str) -> None:
    assert human.quantity(value, "B/s") == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.25, "1.2 s"), (42.0, "42 s"), (320.0, "5 min 20 s"), (3900.0, "1 h 05 min"), (None, "-")],
)
def test_a_long_time_is_told_as_a_person_would(value: float | None, words: str) -> None:
    assert human.duration(value) == words


def test_absent_is_a_dash_and_never_a_zero() -> None:
    for tell in (human.joules, human.watts, human.celsius, human.percent, human.plus_minus):
        assert tell(None) == human.ABSENT
