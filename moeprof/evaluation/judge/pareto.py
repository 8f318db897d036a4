"""Which settings give the best quality for their cost, and whose front wins at equal quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from moeprof.evaluation.judge.settings import costs_of, differences, losses_of, ratios
from moeprof.evaluation.judge.student import CONFIDENCE, ROUNDING, Estimated, mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from moeprof.evaluation.judge.settings import Pairs
    from moeprof.evaluation.runs import SceneRuns
    from moeprof.recipe.scene import Knob

Standing = Literal["better", "no worse", "worse", "cannot tell", "unmatched"]
Verdict = Literal["dominates", "ties", "is dominated", "mixed", "cannot tell", "unmatched"]
QualityLoss = Literal["delta_cross_entropy_nats", "gate_mass_lost_fraction"]
EQUAL_FRACTION: Final = 0.01
"""Costs that differ by less are equal to whoever pays them: less is no gain, and no loss."""


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """One setting: its loss, its cost, and whether no setting has less of one at most the other."""

    policy: str
    setting: Mapping[str, Knob]
    loss: Estimated
    cost: Estimated
    is_on_front: bool


@dataclass(frozen=True, slots=True)
class Match:
    """One setting against the best that a rival has at its quality."""

    setting: Mapping[str, Knob]
    ratio: Estimated | None
    """Its cost over the rival's; None: the rival has no setting of this quality."""
    standing: Standing


@dataclass(frozen=True, slots=True)
class Duel:
    """One policy's own front against a rival's."""

    policy: str
    rival: str
    verdict: Verdict
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class Front:
    """All settings of a scene by one cost."""

    cost_metric: str
    quality_loss: QualityLoss
    points: tuple[FrontPoint, ...]
    duels: tuple[Duel, ...]


def front(runs: SceneRuns, cost_metric: str) -> Front:
    """Return the front of a scene by a cost that is a mean over seeds, and every policy's duels.

    A duel takes each setting of a policy that is on its own front to the rival's settings of at
    least its quality, and the cheapest of them counts. The truth is then the largest of the ratios
    to each of them. Its upper bound is the largest of their upper bounds, which needs no
    correction for the choice (intersection-union: Berger, Technometrics 24, 1982); its lower bound
    is the largest of lower bounds made wider for the number of them (Bonferroni). Both are also
    wider for the number of settings that the policy tries. Quality is uncertain too: for the
    upper bound, which lets the policy win, the rival may use all settings not shown to be of less
    quality; for the lower, only those shown to be of no less.
    """
    losses, costs = losses_of(runs, runs.runs), costs_of(runs, runs.runs, cost_metric)
    mean_losses, mean_costs = losses.mean(axis=1), costs.mean(axis=1)
    best = undominated(mean_losses, mean_costs)
    points = tuple(
        FrontPoint(run.policy, run.setting, mean(loss), mean(cost), bool(is_best))
        for run, loss, cost, is_best in zip(runs.runs, losses, costs, best, strict=True)
    )
    places = _places(runs)
    own = {
        name: settings[undominated(mean_losses[settings], mean_costs[settings])]
        for name, settings in places.items()
    }
    loss_pairs, cost_pairs = differences(losses), ratios(costs)
    duels = tuple(
        _duel(runs, own[policy], places[rival], loss_pairs, cost_pairs)
        for policy in places
        for rival in places
        if policy != rival
    )
    quality: QualityLoss = (
        "delta_cross_entropy_nats" if runs.traffic == "live" else "gate_mass_lost_fraction"
    )
    return Front(cost_metric, quality, points, duels)


def undominated(losses: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points no other point beats in one without being worse in the other."""
    no_worse = (losses[:, None] <= losses + ROUNDING) & (costs[:, None] <= costs * (1 + ROUNDING))
    better = (losses[:, None] < losses - ROUNDING) | (costs[:, None] < costs * (1 - ROUNDING))
    beaten: NDArray[np.bool_] = np.any(no_worse & better, axis=0)
    return np.logical_not(beaten)


def _places(runs: SceneRuns) -> dict[str, NDArray[np.int64]]:
    names = [run.policy for run in runs.runs]
    return {
        name: np.array([place for place, each in enumerate(names) if each == name])
        for name in dict.fromkeys(names)
    }


def _duel(
    runs: SceneRuns,
    own: NDArray[np.int64],
    rivals: NDArray[np.int64],
    losses: Pairs,
    costs: Pairs,
) -> Duel:
    doubt = (1 - CONFIDENCE) / len(own)
    tight, wide = costs.reach(1 - doubt), costs.reach(1 - doubt / len(rivals))
    unsure = losses.reach()
    matches = []
    for place in own:
        more_loss, loss_reach = losses.estimate[rivals, place], unsure[rivals, place]
        maybe = rivals[more_loss - loss_reach <= ROUNDING]
        surely = rivals[more_loss + loss_reach <= ROUNDING]
        likely = rivals[more_loss <= ROUNDING]
        setting = runs.runs[place].setting
        if len(maybe) == 0:
            matches.append(Match(setting, None, "unmatched"))
            continue
        of, chosen = costs.estimate[place], likely if len(likely) > 0 else maybe
        ratio = Estimated(
            float(of[chosen].max()),
            _finite((of[surely] - wide[place][surely]).max(initial=-np.inf)),
            _finite((of[maybe] + tight[place][maybe]).max()),
        )
        matches.append(Match(setting, ratio, _standing(ratio)))
    verdict = _verdict({match.standing for match in matches} - {"unmatched"})
    return Duel(runs.runs[own[0]].policy, runs.runs[rivals[0]].policy, verdict, tuple(matches))


def _finite(bound: float) -> float | None:
    return float(bound) if np.isfinite(bound) else None


def _standing(ratio: Estimated) -> Standing:
    low = -np.inf if ratio.low is None else ratio.low
    high = np.inf if ratio.high is None else ratio.high
    if high < 1 and ratio.estimate < 1 - EQUAL_FRACTION:
        return "better"
    if high <= 1 + EQUAL_FRACTION:
        return "no worse"
    return "worse" if low > 1 else "cannot tell"


def _verdict(standings: set[Standing]) -> Verdict:
    """Return the verdict of a duel: who dominates is better somewhere and shown worse nowhere."""
    if not standings:
        return "unmatched"
    if "worse" in standings:
        return "mixed" if "better" in standings else "is dominated"
    if "cannot tell" in standings:
        return "cannot tell"
    return "dominates" if "better" in standings else "ties"
