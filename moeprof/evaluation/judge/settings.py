"""All settings of a scene side by side: what each seed loses in quality, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.evaluation.judge.metrics import quality_losses, seed_values
from moeprof.evaluation.judge.student import CONFIDENCE, reach, standard_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.evaluation.runs import PolicyRun, SceneRuns


def losses_of(runs: SceneRuns, settings: Sequence[PolicyRun]) -> NDArray[np.float64]:
    """Return the quality losses, [num_settings, num_seeds], as `quality_losses` gives them."""
    return np.stack([quality_losses(runs, run) for run in settings])


def costs_of(runs: SceneRuns, settings: Sequence[PolicyRun], metric: str) -> NDArray[np.float64]:
    """Return a metric that is a mean over seeds and always known, [num_settings, num_seeds]."""
    rows = [seed_values(runs, run, metric) for run in settings]
    return np.stack([row for row in rows if row is not None])


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Every setting against every other, [num_settings, num_settings], paired over seeds.

    `estimate` at [i, j] is of setting i against j; `error` is its standard error.
    """

    estimate: NDArray[np.float64]
    error: NDArray[np.float64]
    num_seeds: int

    def reach(self, confidence: float = CONFIDENCE) -> NDArray[np.float64]:
        """Return how far bounds are from the estimates; infinite with one seed."""
        if self.num_seeds < 2:  # noqa: PLR2004 - what a spread takes
            return np.full_like(self.estimate, np.inf)
        return reach(self.num_seeds, confidence) * self.error


def differences(values: NDArray[np.float64]) -> Pairs:
    """Return the mean differences of `values`, [num_settings, num_seeds]."""
    means = values.mean(axis=1)
    each = values[:, None, :] - values[None, :, :]
    return Pairs(means[:, None] - means[None, :], _errors(each), values.shape[1])


def ratios(values: NDArray[np.float64]) -> Pairs:
    """Return the ratios of means of `values`, [num_settings, num_seeds], all above 0.

    Standard errors are those of `moeprof.evaluation.judge.student.ratio`.
    """
    means = values.mean(axis=1)
    estimate = means[:, None] / means[None, :]
    each = values[:, None, :] - estimate[:, :, None] * values[None, :, :]
    return Pairs(estimate, _errors(each) / means[None, :], values.shape[1])


def _errors(each: NDArray[np.float64]) -> NDArray[np.float64]:
    if each.shape[-1] < 2:  # noqa: PLR2004 - what a spread takes
        return np.zeros(each.shape[:-1])
    return standard_error(each)
