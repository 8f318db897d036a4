"""The learning rate rises in a straight line and falls as half a cosine."""

from __future__ import annotations

import pytest

from moeprof.training.schedule import rate_fraction


def rates(num_steps: int, num_warm_up_steps: int) -> list[float]:
    return [
        rate_fraction(step, num_steps=num_steps, num_warm_up_steps=num_warm_up_steps)
        for step in range(num_steps)
    ]


def test_the_rate_rises_falls_and_is_never_zero() -> None:
    found = rates(100, 9)

    assert found[0] == pytest.approx(0.1)
    assert found.index(max(found)) == 9
    assert found[:10] == sorted(found[:10])
    assert found[9:] == sorted(found[9:], reverse=True)
    assert 0 < found[-1] < 0.001


def test_without_a_rise_the_first_step_has_the_whole_rate_and_the_middle_half() -> None:
    found = rates(100, 0)

    assert found[0] == 1
    assert found[50] == pytest.approx(0.5)
