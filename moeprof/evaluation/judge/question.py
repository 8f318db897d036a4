"""Whether optimising for power is the same goal as optimising for performance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from scipy.stats import rankdata

from moeprof.evaluation.judge.metrics import JOULES, LATENCY
from moeprof.evaluation.judge.settings import costs_of
from moeprof.evaluation.judge.student import ROUNDING, Estimated, around, reach

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from moeprof.evaluation.judge.figures import Figures
    from moeprof.evaluation.runs import PolicyRun, SceneRuns
    from moeprof.recipe.scene import Knob

Answer = Literal["same", "different", "cannot tell"]
SAME_FRACTION: Final = 0.01
"""A regret that is no larger does not tell one goal from the other."""
FEWEST_SEEDS: Final = 4
_FEWEST_TO_RANK: Final = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """The setting that one goal chooses, with the means of both figures."""

    policy: str
    setting: Mapping[str, Knob]
    step_latency_seconds: float
    mean_joules_per_token: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A setting that may not be chosen, and why."""

    policy: str
    setting: Mapping[str, Knob]
    reason: str


@dataclass(frozen=True, slots=True)
class PowerAgainstPerformance:
    """Both goals' choices, and what each loses under the other's figure.

    A regret is relative: 0.02 is 2 % more than the other goal's own choice needs. All are None
    where too few settings, or seeds, are left; `reason` says which.
    """

    answer: Answer
    reason: str | None
    best_latency: Choice | None
    best_energy: Choice | None
    latency_regret: Estimated | None
    """Latency of the choice for energy against the choice for latency."""
    energy_regret: Estimated | None
    """Joules of the choice for latency against the choice for energy."""
    rank_correlation: float | None
    """Spearman's, of mean latency and mean joules over the settings that may be chosen."""
    num_settings: int
    left_out: tuple[LeftOut, ...]


def power_against_performance(
    runs: SceneRuns, settings: Sequence[Figures]
) -> PowerAgainstPerformance:
    """Return the answer for a scene; `settings` are the figures of `runs.runs`, in their order.

    Whoever chooses by the figures that he then reports flatters his choice. So each half of the
    seeds judges what the other half chose (cross-fitting: Stone, Journal of the Royal Statistical
    Society B 36, 1974). Resampling instead, with a choice on each resample, gives no regret below
    0 and so finds one where there is none.
    Among equally good settings a goal takes the one that suits the other goal.
    """
    kept, left_out = [], []
    for run, figures in zip(runs.runs, settings, strict=True):
        reason = reason_to_leave_out(runs, run, figures)
        if reason is None:
            kept.append(run)
        else:
            left_out.append(LeftOut(run.policy, run.setting, reason))
    if len(kept) < 2:  # noqa: PLR2004 - what a choice takes
        reason = f"{len(kept)} of {len(runs.runs)} settings may be chosen, and a choice takes two"
        return PowerAgainstPerformance(
            "cannot tell", reason, None, None, None, None, None, len(kept), tuple(left_out)
        )
    seconds, joules = costs_of(runs, kept, LATENCY), costs_of(runs, kept, JOULES)
    mean_seconds, mean_joules = seconds.mean(axis=1), joules.mean(axis=1)
    choices = [
        Choice(kept[at].policy, kept[at].setting, float(mean_seconds[at]), float(mean_joules[at]))
        for at in (_choose(mean_seconds, mean_joules), _choose(mean_joules, mean_seconds))
    ]
    latency_regret, energy_regret = regrets(seconds, joules)
    few = f"to choose and to judge takes {FEWEST_SEEDS} seeds, got {seconds.shape[1]}"
    return PowerAgainstPerformance(
        answer=_answer(latency_regret, energy_regret),
        reason=few if latency_regret is None else None,
        best_latency=choices[0],
        best_energy=choices[1],
        latency_regret=latency_regret,
        energy_regret=energy_regret,
        rank_correlation=_rank_correlation(mean_seconds, mean_joules),
        num_settings=len(kept),
        left_out=tuple(left_out),
    )


def reason_to_leave_out(runs: SceneRuns, run: PolicyRun, figures: Figures) -> str | None:
    """Return why a setting may not be chosen, None where it may.

    Quality must be shown to be within the scene's budget, to the end of its bounds that is worse.
    """
    if runs.has_constant_compute and bool(np.any(run.num_dropped_rows != 0)):
        return "computes fewer rows than top-k, and the scene holds compute constant"
    if runs.traffic == "live":
        budget = runs.budget_cross_entropy_nats
        loss = figures.cross_entropy
        if loss is None or loss.high is None:
            return "its cross-entropy has no upper bound"
        if loss.high > budget:
            return (
                f"its cross-entropy may be up to {loss.high:.3g} nats more, of {budget:g} allowed"
            )
        return None
    mass, budget = figures.gate_mass_retained, runs.budget_gate_mass_fraction
    least = mass.estimate if mass.low is None else mass.low
    if run.claim != "exact" and least < budget - ROUNDING:
        return f"it may retain as little as {least:.1%} of gate mass, of {budget:.1%} asked for"
    return None


def regrets(
    seconds: NDArray[np.float64], joules: NDArray[np.float64]
) -> tuple[Estimated | None, Estimated | None]:
    """Return both regrets, of latency and of energy, of [num_settings, num_seeds].

    Seeds of even number choose for those of odd number, and these for them. None: fewer than four
    seeds, of which no half has a spread. Leaving out one seed at a time instead holds the truth in
    84 to 92 % of cases with ten seeds, as its choices are nearly one; halves hold it in 95 to 97.
    """
    num_seeds = seconds.shape[1]
    if num_seeds < FEWEST_SEEDS:
        return None, None
    fast, frugal = np.empty((2, num_seeds), dtype=np.int64)
    for first, second in ((0, 1), (1, 0)):
        chosen_by = seconds[:, first::2].sum(axis=1), joules[:, first::2].sum(axis=1)
        fast[second::2], frugal[second::2] = _choose(*chosen_by), _choose(*reversed(chosen_by))
    seeds = np.arange(num_seeds)
    return (
        _over_halves(seconds[frugal, seeds] / seconds[fast, seeds] - 1),
        _over_halves(joules[fast, seeds] / joules[frugal, seeds] - 1),
    )


def _over_halves(values: NDArray[np.float64]) -> Estimated:
    """Return the mean over seeds; each half has the spread of its own choice.

    Degrees of freedom are those of the smaller half, as the other may have no spread at all.
    """
    halves = values[::2], values[1::2]
    error = np.sqrt(sum(len(half) * half.var(ddof=1) for half in halves)) / len(values)
    return around(float(values.mean()), reach(len(halves[1])) * float(error))


def _choose(goal: NDArray[np.float64], other: NDArray[np.float64]) -> int:
    """Return the setting with the least of the goal, of equal ones that with the least other."""
    equal = np.flatnonzero(goal <= goal.min() * (1 + ROUNDING))
    return int(equal[np.argmin(other[equal])])


def _answer(latency: Estimated | None, energy: Estimated | None) -> Answer:
    if latency is None or energy is None or latency.high is None or energy.high is None:
        return "cannot tell"
    if max(latency.high, energy.high) <= SAME_FRACTION:
        return "same"
    lows = [regret.low for regret in (latency, energy) if regret.low is not None]
    return "different" if max(lows) > SAME_FRACTION else "cannot tell"


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Return Spearman's rank correlation; None: fewer than three settings, or all equal in one."""
    if len(first) < _FEWEST_TO_RANK:
        return None
    ranks, others = rankdata(first), rankdata(second)
    spread = float(ranks.std() * others.std())
    if spread == 0:
        return None
    return float(np.mean((ranks - ranks.mean()) * (others - others.mean()))) / spread
