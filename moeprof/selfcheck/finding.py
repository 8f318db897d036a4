"""What an audit found of one promise, and whether the promise was kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binomtest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SURE = 0.99  # confidence that a figure outside its bounds is outside them for good
_NUM_RESAMPLES = 200


class Verdict(StrEnum):
    """Whether a promise was kept.

    A figure outside its bounds that more trials might bring back inside is `inconclusive`, never
    kept. `told` figures have no bound: they stand beside one that has.
    """

    KEPT = "kept"
    BROKEN = "broken"
    INCONCLUSIVE = "inconclusive"
    TOLD = "told"
    SKIPPED = "skipped"  # this device cannot show it; `detail` says why


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise and what was achieved, in the unit that the name ends with (else a share, 0..1).

    `by` holds the same figure by bin, for pictures.
    """

    name: str
    promise: str
    verdict: Verdict
    achieved: float | None
    num_trials: int
    detail: str | None = None
    by: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Promise:
    """A named figure with its bounds, both inclusive; None: no bound on that side."""

    name: str
    words: str
    low: float | None = None
    high: float | None = None

    def holds(self, achieved: float) -> bool:
        """Return whether a figure lies within the bounds."""
        above = self.low is None or achieved >= self.low
        return above and (self.high is None or achieved <= self.high)


def told(name: str, words: str, achieved: float | None, num_trials: int) -> Finding:
    """Return a figure that nothing was promised of."""
    return Finding(name, words, Verdict.TOLD, achieved, num_trials)


def skipped(promise: Promise, reason: str) -> Finding:
    """Return that a promise could not be tried, and why."""
    return Finding(promise.name, promise.words, Verdict.SKIPPED, None, 0, reason)


def of_number(
    promise: Promise, achieved: float, num_trials: int, *, detail: str | None = None
) -> Finding:
    """Return the finding of a figure that chance does not blur, such as the worst of all trials."""
    verdict = Verdict.KEPT if promise.holds(achieved) else Verdict.BROKEN
    return Finding(promise.name, promise.words, verdict, achieved, num_trials, detail)


def of_worst(promise: Promise, values: Sequence[float]) -> Finding:
    """Return the finding of the largest of all trials."""
    return of_number(promise, max(values), len(values)) if values else _uncounted(promise)


def of_interval(
    promise: Promise,
    achieved: float,
    bounds: tuple[float, float],
    num_trials: int,
    *,
    detail: str | None = None,
) -> Finding:
    """Return the finding of a figure that lies within `bounds` with confidence 0.99."""
    below = promise.low is not None and bounds[1] < promise.low
    above = promise.high is not None and bounds[0] > promise.high
    verdict = Verdict.BROKEN if below or above else Verdict.INCONCLUSIVE
    if promise.holds(achieved):
        verdict = Verdict.KEPT
    return Finding(promise.name, promise.words, verdict, achieved, num_trials, detail)


def of_statistic(
    promise: Promise,
    outcomes: Sequence[Any],
    statistic: Callable[[Sequence[Any]], float | None],
    *,
    detail: str | None = None,
) -> Finding:
    """Return the finding of a figure of all trials together (interval: bootstrap over trials)."""
    achieved = statistic(outcomes) if outcomes else None
    if achieved is None:
        return _uncounted(promise)
    if promise.holds(achieved):
        return of_number(promise, achieved, len(outcomes), detail=detail)
    random = np.random.default_rng(len(outcomes))
    drawn = [
        statistic([outcomes[index] for index in random.integers(len(outcomes), size=len(outcomes))])
        for _ in range(_NUM_RESAMPLES)
    ]
    found = [each for each in drawn if each is not None]
    tails = ((1 - _SURE) / 2, (1 + _SURE) / 2)
    low, high = np.quantile(found, tails).tolist() if found else (-math.inf, math.inf)
    return of_interval(promise, achieved, (low, high), len(outcomes), detail=detail)


def _uncounted(promise: Promise) -> Finding:
    """Return the finding of a figure that no trial gave an answer to."""
    reason = "no trial could be counted"
    return Finding(promise.name, promise.words, Verdict.INCONCLUSIVE, None, 0, reason)


def of_share(promise: Promise, num_hits: int, num_trials: int) -> Finding:
    """Return the finding of a share of trials (interval: Clopper and Pearson 1934)."""
    if num_trials == 0:
        return _uncounted(promise)
    found = binomtest(num_hits, num_trials).proportion_ci(_SURE, method="exact")
    bounds = (float(found.low), float(found.high))
    return of_interval(promise, num_hits / num_trials, bounds, num_trials)


def of_quantile(promise: Promise, values: Sequence[float], quantile: float = 0.95) -> Finding:
    """Return the finding of a quantile of errors that is promised to stay below a bound.

    How many errors exceed the bound decides whether it is broken for sure. An infinite error is one
    of a trial that gave no answer.
    """
    assert promise.high is not None, "a quantile of errors is bounded from above"
    if not values:
        return _uncounted(promise)
    achieved = float(np.quantile(values, quantile, method="higher"))
    num_inside = sum(value <= promise.high for value in values)
    found = binomtest(num_inside, len(values)).proportion_ci(_SURE, method="exact")
    verdict = Verdict.BROKEN if found.high < quantile else Verdict.INCONCLUSIVE
    if promise.holds(achieved):
        verdict = Verdict.KEPT
    finite = achieved if math.isfinite(achieved) else None
    detail = None if finite is not None else "too many trials gave no answer"
    return Finding(promise.name, promise.words, verdict, finite, len(values), detail)


def worst_of(promise: Promise, findings: Mapping[str, Finding]) -> Finding:
    """Return the least good of one figure's findings by bin, with all of them in `by`."""
    order = [Verdict.KEPT, Verdict.SKIPPED, Verdict.INCONCLUSIVE, Verdict.BROKEN]
    bins = {name: each for name, each in findings.items() if each.achieved is not None}
    if not bins:
        return _uncounted(promise)
    name, worst = max(
        bins.items(), key=lambda item: (order.index(item[1].verdict), _excess(promise, item[1]))
    )
    uncounted = [each for each in findings if each not in bins]
    verdict = worst.verdict
    if uncounted and verdict is Verdict.KEPT:
        verdict, name = Verdict.INCONCLUSIVE, f"{name}; nothing counted in {', '.join(uncounted)}"
    return Finding(
        promise.name,
        promise.words,
        verdict,
        worst.achieved,
        sum(each.num_trials for each in bins.values()),
        f"worst: {name}",
        {name: {"achieved": e.achieved, "num_trials": e.num_trials} for name, e in bins.items()},
    )


def _excess(promise: Promise, finding: Finding) -> float:
    """Return how far a figure is toward or beyond the nearer of its bounds."""
    assert finding.achieved is not None
    above = -math.inf if promise.high is None else finding.achieved - promise.high
    below = -math.inf if promise.low is None else promise.low - finding.achieved
    return max(above, below)
