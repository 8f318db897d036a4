"""Intervals of a bench: of medians, of ratios of pairs, and what they say of two kernels."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

from moeprof.bench.result import Comparison, Verdict
from moeprof.measure.median_interval import MedianIntervalRule
from moeprof.measure.settings import StoppingSettings
from moeprof.record import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CONFIDENCE = 0.95


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median of at least one value with its 95 % interval."""
    rule = MedianIntervalRule(StoppingSettings(confidence=_CONFIDENCE))
    for value in values:
        rule.add(value)
    return rule.interval()


def paired_ratio(values: Sequence[float], others: Sequence[float]) -> Interval:
    """Return the median of `values` over `others`, pair by pair: what both suffer cancels."""
    return median_interval([value / other for value, other in zip(values, others, strict=True)])


def verdict_of(ratio: Interval) -> Verdict:
    """Return what a ratio of seconds says; an interval of less than 95 % says nothing."""
    if ratio.confidence < _CONFIDENCE or ratio.low <= 1 <= ratio.high:
        return Verdict.UNDECIDED
    return Verdict.FASTER if ratio.high < 1 else Verdict.SLOWER


def scaled(interval: Interval, factor: float) -> Interval:
    """Return the interval of a quantity times a known positive factor."""
    return Interval(
        estimate=interval.estimate * factor,
        low=interval.low * factor,
        high=interval.high * factor,
        confidence=interval.confidence,
    )


def inverse(interval: Interval, factor: float) -> Interval:
    """Return the interval of a known positive factor over a positive quantity."""
    return Interval(
        estimate=factor / interval.estimate,
        low=factor / interval.high,
        high=factor / interval.low,
        confidence=interval.confidence,
    )


def comparisons(samples: Mapping[str, Sequence[float]]) -> tuple[Comparison, ...]:
    """Return every kernel against every other, from samples by round."""
    found = []
    for kernel, other in permutations(samples, 2):
        ratio = paired_ratio(samples[kernel], samples[other])
        found.append(Comparison(kernel, other, ratio, verdict_of(ratio)))
    return tuple(found)
