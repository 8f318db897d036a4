"""How many samples moeprof needs for the error that other tools' stopping rules achieve."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moeprof.measure.median_interval import MedianIntervalRule
from moeprof.measure.settings import StoppingSettings
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.finding import Promise, of_statistic, told
from moeprof.selfcheck.peers import EntropyRule, FixedTimeRule, StdrelRule, num_taken
from moeprof.selfcheck.stopping import bins
from moeprof.selfcheck.streams import drawn_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from moeprof.hardware.gpu import GPU
    from moeprof.measure.stopping import StoppingRule
    from moeprof.selfcheck.finding import Finding

_PEERS: dict[str, Callable[[], StoppingRule]] = {
    "stdrel": StdrelRule,
    "entropy": EntropyRule,
    "fixed_time": FixedTimeRule,
}
_SECONDS_MAX = 16.0  # of samples: nvbench gives up after 15 s
_WITH, _WITHOUT = "with outliers", "without outliers"
# At the widest our rule stops at its least number of samples; the narrowest are beyond the peers.
TARGETS_FRACTION = {_WITH: (0.02, 0.005, 0.002), _WITHOUT: (0.02, 0.004, 0.0016, 0.0007)}

SAMPLES = Promise(
    "samples_vs_stdrel",
    "at most 1/3 of the samples of nvbench's stdrel for the same error (geometric mean over bins)",
    high=1 / 3,
)
SAMPLES_WORST = Promise(
    "samples_vs_stdrel_worst_bin",
    "never more than 1.2 times as many in any bin of carry-over",
    high=1.2,
)
_TOLD = ("samples_vs_entropy", "samples_vs_fixed_time", "samples_vs_stdrel_without_outliers")
_COVERAGE = "coverage_of_stdrel"


@dataclass(frozen=True, slots=True)
class Taken:
    """One rule on one stream: the samples it took and what they were worth.

    `rule` is a peer's name, or the half-width asked of ours. A peer's error is that of its mean
    against the true mean, ours that of the median against the true median: to each its own.
    """

    kind: str
    carry_bin: str
    rule: str | float
    num_samples: int
    error_fraction: float
    is_covered: bool


def taken_by_each(gpu: GPU, random: np.random.Generator) -> list[Taken]:
    """Return what every rule took of the same streams, one with and one without outliers a bin."""
    found = []
    for name, carry_fractions in bins():
        process = drawn_process(gpu, random, carry_fractions)
        for kind in (_WITH, _WITHOUT):
            if kind == _WITHOUT:
                process = replace(process, outliers_fraction=0.0)
            num_samples = math.ceil(_SECONDS_MAX / process.sample_seconds)
            samples = process.samples(random, num_samples)
            for peer, rule_of in _PEERS.items():
                taken = _taken(rule_of(), samples, process.mean_seconds)
                found.append(Taken(kind, name, peer, *taken))
            for target in TARGETS_FRACTION[kind]:
                settings = StoppingSettings(relative_half_width_fraction=target)
                rule = MedianIntervalRule(settings)
                ours = samples[: settings.num_samples_max]
                taken = _taken(rule, ours, process.median_seconds)
                found.append(Taken(kind, name, target, *taken))
    return found


def _taken(
    rule: StoppingRule, samples: NDArray[np.float64], true_seconds: float
) -> tuple[int, float, bool]:
    num_samples = num_taken(rule, samples)
    interval = rule.interval()
    is_covered = interval.low <= true_seconds <= interval.high
    return num_samples, interval.estimate / true_seconds - 1, is_covered


def judged_samples(outcomes: Sequence[Sequence[Taken]]) -> tuple[Finding, ...]:
    """Judge our samples over the peers' at equal error, by bin of carry-over."""
    rows = [each for outcome in outcomes for each in outcome]
    num = len(outcomes)
    ratios = {
        (kind, peer): _ratios([each for each in rows if each.kind == kind], peer)
        for kind, peer in [*((_WITH, peer) for peer in _PEERS), (_WITHOUT, "stdrel")]
    }
    stdrel = ratios[_WITH, "stdrel"]
    worst = max(stdrel, key=stdrel.__getitem__)

    def against_stdrel(drawn: Sequence[Sequence[Taken]]) -> dict[str, float]:
        taken = [each for outcome in drawn for each in outcome if each.kind == _WITH]
        return _ratios(taken, "stdrel")

    figures = dict(zip(_TOLD, list(ratios)[1:], strict=True))
    return (
        replace(
            of_statistic(SAMPLES, outcomes, lambda drawn: _geometric_mean(against_stdrel(drawn))),
            by=stdrel,
        ),
        of_statistic(
            SAMPLES_WORST,
            outcomes,
            lambda drawn: max(against_stdrel(drawn).values()),
            detail=f"worst: {worst}",
        ),
        *(
            replace(
                told(
                    name,
                    f"our samples over those of {peer} for the same error, {kind}",
                    _geometric_mean(ratios[kind, peer]),
                    num,
                ),
                by=ratios[kind, peer],
            )
            for name, (kind, peer) in figures.items()
        ),
        _told_coverage(rows),
    )


def _ratios(rows: Sequence[Taken], peer: str) -> dict[str, float]:
    """Return our mean samples over the peer's, in each bin, at the error that the peer has there.

    Errors are root mean squares over a bin's streams. Our samples for an error lie on a line, in
    logarithms, between the half-widths tried; below the smallest error tried they grow with its
    inverse square, and above the largest they are our least.
    """
    ratios = {}
    for name, _ in bins():
        here = [each for each in rows if each.carry_bin == name]
        num_peer, error_peer = _mean_and_error(here, peer)
        targets = {each.rule for each in here} - set(_PEERS)
        ours = sorted((_mean_and_error(here, target) for target in targets), reverse=True)
        log_num = [math.log(num) for num, _ in ours]
        log_error = [math.log(error) for _, error in ours]
        # More samples may by chance have a larger error: then they do not help.
        log_error = np.minimum.accumulate(log_error[::-1])[::-1].tolist()
        log_wanted = math.log(error_peer)
        found = float(np.interp(log_wanted, log_error, log_num))
        found += 2 * max(0.0, log_error[0] - log_wanted)
        ratios[name] = math.exp(found) / num_peer
    return ratios


def _mean_and_error(rows: Sequence[Taken], rule: str | float) -> tuple[float, float]:
    """Return the mean number of samples of a rule and its root mean square error."""
    ours = [each for each in rows if each.rule == rule]
    squares = [each.error_fraction**2 for each in ours]
    return float(np.mean([each.num_samples for each in ours])), math.sqrt(np.mean(squares))


def _geometric_mean(ratios: Mapping[str, float]) -> float:
    return float(np.exp(np.mean(np.log(list(ratios.values())))))


def _told_coverage(rows: Sequence[Taken]) -> Finding:
    """Tell what mean +- 1.96 s/sqrt(n) of stdrel's samples covers, by bin."""
    by_bin: dict[str, list[bool]] = defaultdict(list)
    for each in rows:
        if each.rule == "stdrel" and each.kind == _WITH:
            by_bin[each.carry_bin].append(each.is_covered)
    hits = sum(map(sum, by_bin.values()))
    num = sum(map(len, by_bin.values()))
    words = "coverage of mean +- 1.96 s/sqrt(n), which a reader of nvbench's result would draw"
    cells = {
        name: {"achieved": float(np.mean(each)), "num_trials": len(each)}
        for name, each in by_bin.items()
    }
    return replace(told(_COVERAGE, words, hits / num, num), by=cells)


CHECKS: tuple[Check, ...] = (
    Check(
        name="stopping_peers",
        figures=(SAMPLES.name, SAMPLES_WORST.name, *_TOLD, _COVERAGE),
        num_trials=100,
        trial=taken_by_each,
        judge=judged_samples,
    ),
)
