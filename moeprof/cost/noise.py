"""How the model's errors and intervals move when noise is added to what it is fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.held_out import Steps, held_out, model_method
from moeprof.cost.holdout import splits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moeprof.cost.held_out import Fit, Judged, OnStep, Rows
    from moeprof.cost.holdout import Holdout
    from moeprof.cost.points import Observed
    from moeprof.cost.score import Score


@dataclass(frozen=True, slots=True, eq=False)
class NoiseLevel:
    """Errors of a model that was fitted to noisy rows, by quantity and regime.

    `against_clean` are judged on held-out rows as they were measured: the errors of the model.
    `against_noisy` are judged on held-out rows with the same noise: whether the intervals, which
    are promised for a measurement, hold it.
    """

    noise_fraction: float
    against_clean: Mapping[Judged, Mapping[str, Score]]
    against_noisy: Mapping[Judged, Mapping[str, Score]]


def noise_study(
    rows: Rows,
    fit: Fit,
    levels: Sequence[float],
    *,
    holdout: Holdout,
    seed: int,
    on_step: OnStep = lambda *_: None,
) -> tuple[NoiseLevel, ...]:
    """Return the errors at each level of noise, a fraction of 0 or more.

    Each row's seconds and its joules are multiplied by log-normal factors of median 1 with that
    standard deviation, drawn apart by `seed`; its watts are the noisy joules over the noisy
    seconds. So both losses, which are of log ratios, meet noise of the same size.

    Raises:
        FitError: the rows cannot be split so, or a split leaves the model too few.

    """
    parts = splits(rows.points, holdout, seed)
    steps = Steps(on_step, len(levels) * len(parts))
    found = []
    for level in levels:
        noisy = replace(rows, observed=with_noise(rows.observed, level, seed))
        begin = partial(steps.begin, f"noise {level:g}")
        predicted = held_out(model_method(fit), noisy, parts, begin)
        found.append(NoiseLevel(level, predicted.scores(rows), predicted.scores(noisy)))
    return tuple(found)


def with_noise(observed: Observed, noise_fraction: float, seed: int) -> Observed:
    """Return what was observed with noise in it; intervals of the latency move with it."""
    draw = np.random.default_rng(seed)
    sigma = np.sqrt(np.log1p(noise_fraction**2))
    on_seconds, on_joules = np.exp(sigma * draw.standard_normal((2, len(observed))))
    return replace(
        observed,
        latency_seconds=observed.latency_seconds * on_seconds,
        latency_seconds_ci_low=observed.latency_seconds_ci_low * on_seconds,
        latency_seconds_ci_high=observed.latency_seconds_ci_high * on_seconds,
        average_watts=observed.average_watts * on_joules / on_seconds,
        energy_joules=observed.energy_joules * on_joules,
    )
