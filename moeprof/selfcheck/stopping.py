"""Whether the interval of a median covers the truth at the sample where its own rule stopped."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from moeprof.measure.median_interval import MedianIntervalRule
from moeprof.measure.settings import StoppingSettings
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.draw import log_between
from moeprof.selfcheck.finding import Promise, of_share, told, worst_of
from moeprof.selfcheck.peers import num_taken
from moeprof.selfcheck.streams import CARRY_BINS, drawn_levels, drawn_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moeprof.hardware.gpu import GPU
    from moeprof.measure.stopping import StoppingRule
    from moeprof.selfcheck.finding import Finding
    from moeprof.selfcheck.streams import Process

TARGETS_FRACTION = (0.002, 0.02)  # of the half-width of the interval
_STREAMS_PER_BIN = 4
_DEMANDS = {  # by the noise over the half-width asked
    "noise below a third of the width": 1 / 3,
    "noise about the width": 2.0,
    "noise over twice the width": math.inf,
}

COVERAGE = Promise(
    "interval_coverage",
    "95 % intervals of the median, stopped early, cover it in 93 to 97 % however samples depend",
    low=0.93,
    high=0.97,
)
COVERAGE_UNSTEADY = Promise(
    "interval_coverage_unsteady",
    "where latency steps or drifts meanwhile, they hold the median of all samples in at least 93 %",
    low=0.93,
)


@dataclass(frozen=True, slots=True)
class Covered:
    """One stopped stream: its bin of carry-over, how hard it was, and whether it was covered."""

    carry_bin: str
    demand: str
    is_covered: bool


def bins() -> list[tuple[str, tuple[float, float]]]:
    """Return the bins of how much noise carries over from sample to sample."""
    return [(f"{low:g} to {high:g}", (low, high)) for low, high in pairwise(CARRY_BINS)]


def covered_streams(
    gpu: GPU,
    random: np.random.Generator,
    rule_of: Callable[[StoppingSettings], StoppingRule] = MedianIntervalRule,
) -> list[Covered]:
    """Return what a rule's intervals are worth on drawn streams, equally many of every bin."""
    found = []
    for name, carry_fractions in bins() * _STREAMS_PER_BIN:
        process = drawn_process(gpu, random, carry_fractions)
        settings = _drawn_settings(random)
        rule = rule_of(settings)
        num_taken(rule, process.samples(random, settings.num_samples_max))
        interval = rule.interval()
        is_covered = interval.low <= process.median_seconds <= interval.high
        found.append(Covered(name, _demand(process, settings), is_covered))
    return found


def covered_unsteady_streams(gpu: GPU, random: np.random.Generator) -> list[Covered]:
    """Return the same for streams with a step or a drift before where the steady one had stopped.

    The truth is the median of the average distribution of the samples that were really taken.
    """
    found = []
    for name, carry_fractions in bins():
        process = drawn_process(gpu, random, carry_fractions)
        settings = _drawn_settings(random)
        steady = process.samples(random, settings.num_samples_max)
        num_steady = num_taken(MedianIntervalRule(settings), steady)
        levels = drawn_levels(random, num_steady, settings.num_samples_max)
        rule = MedianIntervalRule(settings)
        num = num_taken(rule, process.samples(random, settings.num_samples_max) * levels)
        interval, truth = rule.interval(), process.median_of_changing(levels[:num])
        is_covered = interval.low <= truth <= interval.high
        found.append(Covered(name, _demand(process, settings), is_covered))
    return found


def _drawn_settings(random: np.random.Generator) -> StoppingSettings:
    return StoppingSettings(relative_half_width_fraction=log_between(random, TARGETS_FRACTION))


def _demand(process: Process, settings: StoppingSettings) -> str:
    """Return how the noise compares with the width asked: the easy ones stop at their minimum."""
    ratio = process.noise_fraction / settings.relative_half_width_fraction
    return next(name for name, highest in _DEMANDS.items() if ratio <= highest)


def judged_coverage(outcomes: Sequence[Sequence[Covered]]) -> tuple[Finding, ...]:
    """Judge the coverage in each bin, and tell it in each by how hard it was."""
    streams = [each for outcome in outcomes for each in outcome]
    by_bin: dict[str, list[bool]] = defaultdict(list)
    by_cell: dict[str, list[bool]] = defaultdict(list)
    for each in streams:
        by_bin[each.carry_bin].append(each.is_covered)
        by_cell[f"{each.carry_bin}, {each.demand}"].append(each.is_covered)
    bounded = {name: of_share(COVERAGE, sum(hits), len(hits)) for name, hits in by_bin.items()}
    num_covered = sum(each.is_covered for each in streams)
    overall = told(
        "interval_coverage_overall",
        "coverage over all bins, and in each by how hard it was",
        num_covered / len(streams),
        len(streams),
    )
    return worst_of(COVERAGE, bounded), replace(overall, by=_shares(by_cell))


def judged_unsteady(outcomes: Sequence[Sequence[Covered]]) -> tuple[Finding, ...]:
    """Judge the coverage of unsteady streams, all together, with that of each bin beside it."""
    by_bin: dict[str, list[bool]] = defaultdict(list)
    for outcome in outcomes:
        for each in outcome:
            by_bin[each.carry_bin].append(each.is_covered)
    num_covered = sum(map(sum, by_bin.values()))
    finding = of_share(COVERAGE_UNSTEADY, num_covered, sum(map(len, by_bin.values())))
    return (replace(finding, by=_shares(by_bin)),)


def _shares(hits_by_name: Mapping[str, Sequence[bool]]) -> dict[str, dict[str, float]]:
    return {
        name: {"achieved": float(np.mean(hits)), "num_trials": len(hits)}
        for name, hits in sorted(hits_by_name.items())
    }


CHECKS: tuple[Check, ...] = (
    Check(
        name="stopping",
        figures=(COVERAGE.name, "interval_coverage_overall"),
        num_trials=550,
        trial=covered_streams,
        judge=judged_coverage,
    ),
    Check(
        name="stopping_unsteady",
        figures=(COVERAGE_UNSTEADY.name,),
        num_trials=200,
        trial=covered_unsteady_streams,
        judge=judged_unsteady,
    ),
)
