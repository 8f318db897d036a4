"""The paired difference, and ratio, of one metric of two runs of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.evaluation.judge import student
from moeprof.evaluation.judge.metrics import QUANTILES, seed_values
from moeprof.evaluation.judge.quantiles import draw_seeds, resampled
from moeprof.evaluation.judge.student import CONFIDENCE, ROUNDING, Estimated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.evaluation.runs import PolicyRun, SceneRuns


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a metric of one run stands to that of another."""

    metric: str
    difference: Estimated
    """The first less the second, in the metric's own unit."""
    ratio: Estimated | None
    """The first over the second; None: the second is 0."""

    @property
    def is_different(self) -> bool:
        """Whether the bounds of the difference exclude 0."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and not low <= 0 <= high


def compare(
    runs: SceneRuns,
    first: PolicyRun,
    second: PolicyRun,
    metric: str,
    *,
    seed: int,
    confidence: float = CONFIDENCE,
) -> Comparison | None:
    """Return the comparison of two runs by a metric that is no bound, None where it is not known.

    Seeds are paired, so that requests and noise that both had cancel. Means have Student's bounds
    over seeds. Quantiles have Student's bounds as well, their standard error from drawing whole
    seeds, the same for both, widened by sqrt(n / (n - 1)) for what drawing from n of n loses.
    """
    if metric in QUANTILES:
        share = QUANTILES[metric]
        return _of_quantiles(
            first.step_seconds, second.step_seconds, metric, share, seed, confidence
        )
    one, other = seed_values(runs, first, metric), seed_values(runs, second, metric)
    if one is None or other is None:
        return None
    return Comparison(
        metric, student.mean(one - other, confidence), student.ratio(one, other, confidence)
    )


def claims_gain(
    runs: SceneRuns,
    first: PolicyRun,
    second: PolicyRun,
    metric: str,
    *,
    seed: int,
    num_claims: int = 1,
) -> bool:
    """Whether the first run may claim to need less of a metric than the second.

    The chance that any of `num_claims` such claims is made where none is true is at most 2.5 %
    (Bonferroni); a difference that rounding may have made is none.
    """
    assert num_claims >= 1, "somebody claims"
    confidence = 1 - (1 - CONFIDENCE) / num_claims
    found = compare(runs, first, second, metric, seed=seed, confidence=confidence)
    if found is None or found.ratio is None or found.ratio.high is None:
        return False
    return found.ratio.high < 1 - ROUNDING


def _of_quantiles(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    metric: str,
    share: float,
    seed: int,
    confidence: float,
) -> Comparison:
    one, other = float(np.quantile(first, share)), float(np.quantile(second, share))
    num_seeds = len(first)
    if num_seeds < 2:  # noqa: PLR2004 - what a spread takes
        return Comparison(
            metric, Estimated(one - other, None, None), Estimated(one / other, None, None)
        )
    drawn = draw_seeds(num_seeds, seed=seed)
    ones, others = resampled(first, share, drawn), resampled(second, share, drawn)
    reach = student.reach(num_seeds, confidence) * np.sqrt(num_seeds / (num_seeds - 1))
    return Comparison(
        metric,
        student.around(one - other, float(reach * (ones - others).std())),
        student.around(one / other, float(reach * (ones / others).std())),
    )
