"""What of a run a metric's dotted name stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from moeprof.evaluation.runs import PolicyRun, SceneRuns

LATENCY: Final = "step_latency_seconds.mean"
LATENCY_P95: Final = "step_latency_seconds.p95"
JOULES: Final = "joules_per_token.mean"
CROSS_ENTROPY: Final = "delta_cross_entropy_nats.mean"
QUANTILES: Final = {
    "step_latency_seconds.p50": 0.50,
    LATENCY_P95: 0.95,
    "step_latency_seconds.p99": 0.99,
}


def _over_steps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = values.mean(axis=1)
    return means


_OF_SEEDS: Final[Mapping[str, Callable[[PolicyRun], NDArray[np.float64]]]] = {
    LATENCY: lambda run: _over_steps(run.step_seconds),
    "active_experts": lambda run: _over_steps(run.active_experts),
    "peak_celsius": lambda run: run.peak_celsius,
    "throttled_seconds": lambda run: run.throttled_seconds,
    "gate_mass_retained": lambda run: _over_steps(run.gate_mass_fraction),
    "selections_changed_fraction": lambda run: _over_steps(run.changed_fraction),
    "router_seconds": lambda run: np.full(len(run.step_seconds), run.router_seconds),
}


def seed_values(runs: SceneRuns, run: PolicyRun, metric: str) -> NDArray[np.float64] | None:
    """Return the metric of each seed, [num_seeds], for one whose figure is a mean over seeds.

    None is a cross-entropy where the model did not run live and experts are others. `metric` is
    any of `moeprof.recipe.gates.METRICS` that is no quantile and no bound.
    """
    if metric == CROSS_ENTROPY:
        return _loss_differences(run)
    if metric == JOULES:
        return _over_steps(run.step_joules) / runs.batch_size
    return _OF_SEEDS[metric](run)


def quality_losses(runs: SceneRuns, run: PolicyRun) -> NDArray[np.float64]:
    """Return what each seed loses in quality, [num_seeds].

    Nats of cross-entropy where the model ran live, else the share of gate mass that is not
    retained; exactly 0 where a policy leaves experts as they are.
    """
    if run.claim == "exact":
        return np.zeros(len(run.step_seconds))
    if runs.traffic == "live":
        losses = _loss_differences(run)
        assert losses is not None, "live traffic knows the losses of re-routed tokens"
        return losses
    return 1 - _over_steps(run.gate_mass_fraction)


def _loss_differences(run: PolicyRun) -> NDArray[np.float64] | None:
    if run.claim == "exact":
        return np.zeros(len(run.step_seconds))
    if run.loss_difference_nats is None:
        return None
    means: NDArray[np.float64] = run.loss_difference_nats.mean(axis=(1, 2))
    return means
