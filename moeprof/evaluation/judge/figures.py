"""The figures of one setting of a policy in a scene, each with its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.evaluation.bootstrap import mean_per_token
from moeprof.evaluation.judge.metrics import CROSS_ENTROPY, JOULES, LATENCY, seed_values
from moeprof.evaluation.judge.student import Estimated, mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from moeprof.evaluation.runs import Claim, PolicyRun, SceneRuns
    from moeprof.recipe.scene import Knob

NOT_LIVE: Final = (
    "the traffic's model did not run, so what other experts would have said is unknown"
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a report's table says of one setting; bounds are of the mean over seeds, at 95 %."""

    policy: str
    setting: Mapping[str, Knob]
    claim: Claim
    step_latency: Estimated
    """Seconds, the mean over steps."""
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    joules_per_token: Estimated
    active_experts: Estimated
    peak_celsius: Estimated
    """The hottest die of a seed, mean over seeds."""
    throttled: Estimated
    """Seconds of a seed, mean over seeds."""
    gate_mass_retained: Estimated
    selections_changed: Estimated
    """A fraction of all selections."""
    router_seconds: float
    cross_entropy: Estimated | None
    """Nats more than plain top-k's; bounds over requests. None, with a reason: not known."""
    cross_entropy_reason: str | None


def figures(runs: SceneRuns, run: PolicyRun, *, seed: int) -> Figures:
    """Return all figures of a run of the scene; `seed` is for the resampling of requests."""
    of = partial(_mean, runs, run)
    p50, p95, p99 = (float(each) for each in np.quantile(run.step_seconds, (0.5, 0.95, 0.99)))
    loss = cross_entropy(runs, run, seed=seed)
    return Figures(
        policy=run.policy,
        setting=run.setting,
        claim=run.claim,
        step_latency=of(LATENCY),
        p50_seconds=p50,
        p95_seconds=p95,
        p99_seconds=p99,
        joules_per_token=of(JOULES),
        active_experts=of("active_experts"),
        peak_celsius=of("peak_celsius"),
        throttled=of("throttled_seconds"),
        gate_mass_retained=of("gate_mass_retained"),
        selections_changed=of("selections_changed_fraction"),
        router_seconds=run.router_seconds,
        cross_entropy=loss,
        cross_entropy_reason=NOT_LIVE if loss is None else None,
    )


def cross_entropy(runs: SceneRuns, run: PolicyRun, *, seed: int) -> Estimated | None:
    """Return the mean difference to plain top-k's cross-entropy, in nats, bounded over requests.

    Exactly 0 where a policy leaves experts as they are; None where it does not, and no model ran.
    Bounds are None where there are too few requests.
    """
    if run.claim == "exact":
        return Estimated(0.0, 0.0, 0.0)
    losses = run.loss_difference_nats
    if losses is None:
        return None
    sums, num_tokens = _by_request(runs.requests, losses)
    found = mean_per_token(sums, num_tokens, seed=seed)
    if found.interval is None:
        return Estimated(found.estimate, None, None)
    return Estimated(found.estimate, found.interval.low, found.interval.high)


def _by_request(
    requests: NDArray[np.int64], losses: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    _, places = np.unique(requests, return_inverse=True)
    places = places.ravel()
    sums = np.bincount(places, weights=losses.ravel()).astype(np.float64)
    return sums, np.bincount(places).astype(np.int64)


def _mean(runs: SceneRuns, run: PolicyRun, metric: str) -> Estimated:
    values = seed_values(runs, run, metric)
    assert values is not None, f"{metric} is known of every run"
    return mean(values)


def metric_figure(runs: SceneRuns, run: PolicyRun, metric: str, *, seed: int) -> Estimated | None:
    """Return one metric that is no quantile, None where it is not known."""
    if metric == CROSS_ENTROPY:
        return cross_entropy(runs, run, seed=seed)
    return _mean(runs, run, metric)
