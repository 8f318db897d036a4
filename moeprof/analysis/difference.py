"""The relative difference of two measurements, and whether there is one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from moeprof.record import Interval

_WIDENING = 1.05


@dataclass(frozen=True, slots=True)
class Difference:
    """By what fraction the second measurement is larger than the first, with its interval."""

    relative: Interval  # 0.01: 1 % larger

    @property
    def is_different(self) -> bool:
        """Whether the interval, which has to claim something, excludes no difference."""
        return self.relative.confidence > 0 and not self.relative.low <= 0 <= self.relative.high


def difference(first: Interval, second: Interval) -> Difference:
    """Return the difference of two independent measurements of something positive.

    On the scale of logarithms the half-widths add in quadrature, each side with the sides of its
    own (MOVER: Zou and Donner, Statistics in Medicine 27, 2008), widened by 5 % so that equal pairs
    are not called different more often than the confidence says where an interval covers a little
    less than it should. It is worth the confidence of the less sure of the two.
    """
    estimate = math.log(second.estimate / first.estimate)
    below = _WIDENING * math.hypot(
        math.log(second.estimate / second.low), math.log(first.high / first.estimate)
    )
    above = _WIDENING * math.hypot(
        math.log(second.high / second.estimate), math.log(first.estimate / first.low)
    )
    return Difference(
        Interval(
            estimate=math.expm1(estimate),
            low=math.expm1(estimate - below),
            high=math.expm1(estimate + above),
            confidence=min(first.confidence, second.confidence),
        )
    )
