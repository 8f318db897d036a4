"""Who wins a scene within its budget of quality, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moeprof.evaluation.judge.compare import compare
from moeprof.evaluation.judge.metrics import JOULES, LATENCY, LATENCY_P95
from moeprof.evaluation.judge.student import CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moeprof.evaluation.judge.figures import Figures
    from moeprof.evaluation.judge.student import Estimated
    from moeprof.evaluation.runs import Claim
    from moeprof.report.routes_scene import SceneReport

GOALS: Final[Mapping[str, Callable[[Figures], float]]] = {
    LATENCY: lambda found: found.step_latency.estimate,
    LATENCY_P95: lambda found: found.p95_seconds,
    JOULES: lambda found: found.joules_per_token.estimate,
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A setting, and its figure over the baseline's; None: it is the baseline, or that is 0."""

    figures: Figures
    ratio: Estimated | None


@dataclass(frozen=True, slots=True)
class Race:
    """The best setting of a claim, and the best of another policy; None: there is none."""

    claim: Claim
    metric: str
    num_candidates: int
    winner: Placed | None
    next_best: Placed | None


def race(report: SceneReport, claim: Claim, metric: str) -> Race:
    """Return who needs the least of a metric among settings of a claim within the budget.

    Policies that see the truth do not run. Whoever is chosen as the best of many looks better than
    he is: intervals hold for all candidates at once (Bonferroni), and so for the chosen ones too.
    """
    places = [
        place
        for place, each in enumerate(report.judged.settings)
        if each.claim == claim and each.policy not in report.seers and report.is_within_budget(each)
    ]
    settings, goal = report.judged.settings, GOALS[metric]
    places.sort(key=lambda place: goal(settings[place]))
    others = [place for place in places if settings[place].policy != settings[places[0]].policy]
    best, second = (
        _placed(report, each[0], metric, len(places)) if each else None for each in (places, others)
    )
    return Race(claim, metric, len(places), best, second)


def _placed(report: SceneReport, place: int, metric: str, num_candidates: int) -> Placed:
    runs, judged = report.runs, report.judged
    baseline = next((run for run in runs.runs if run.policy == judged.baseline), None)
    run = runs.runs[place]
    ratio = None
    if baseline is not None and run is not baseline:
        compared = compare(
            runs,
            run,
            baseline,
            metric,
            seed=report.loaded.scene.seed,
            confidence=1 - (1 - CONFIDENCE) / num_candidates,
        )
        ratio = None if compared is None else compared.ratio
    return Placed(judged.settings[place], ratio)
