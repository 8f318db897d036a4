"""The judgement of a scene, all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moeprof.evaluation.judge.compare import Comparison, claims_gain, compare
from moeprof.evaluation.judge.document import scene_document
from moeprof.evaluation.judge.figures import Figures, figures
from moeprof.evaluation.judge.metrics import JOULES, LATENCY, LATENCY_P95
from moeprof.evaluation.judge.pareto import Front, front
from moeprof.evaluation.judge.question import PowerAgainstPerformance, power_against_performance

if TYPE_CHECKING:
    from moeprof.evaluation.runs import Hardware, PolicyRun, SceneRuns

_GAINS = (LATENCY, LATENCY_P95, JOULES)


@dataclass(frozen=True, slots=True)
class AgainstBaseline:
    """A policy's first setting against the baseline's."""

    policy: str
    comparisons: tuple[Comparison, ...]
    """By mean latency, 95th percentile of latency, and joules, at 95 % each."""
    gains: frozenset[str]
    """The metrics of them in which it may claim a gain, all claims of the scene counted."""


@dataclass(frozen=True, slots=True)
class SceneJudged:
    """What the runs of a scene show."""

    scene: str
    question: str
    baseline: str
    hardware: Hardware
    emulated: tuple[str, ...]
    notes: tuple[str, ...]
    num_seeds: int
    policies: tuple[Figures, ...]
    """The first setting of each policy."""
    settings: tuple[Figures, ...]
    """Every setting, in the order of the runs."""
    against_baseline: tuple[AgainstBaseline, ...]
    """Every policy but the baseline; none where the baseline was not run."""
    fronts: tuple[Front, ...]
    """By latency and by joules."""
    power_versus_performance: PowerAgainstPerformance

    def document(self) -> dict[str, Any]:
        """Return what stands under the scene's name in the JSON of `route-eval`.

        Numbers have nine significant digits, so that machines which differ in the last bits write
        the same.
        """
        return scene_document(
            self.policies, self.hardware, self.fronts, self.power_versus_performance
        )


def judge(runs: SceneRuns, *, seed: int) -> SceneJudged:
    """Return the judgement of a scene; `seed` is for resampling only."""
    settings = tuple(figures(runs, run, seed=seed) for run in runs.runs)
    firsts = {each.policy: each for each in reversed(settings)}
    return SceneJudged(
        scene=runs.scene,
        question=runs.question,
        baseline=runs.baseline,
        hardware=runs.hardware,
        emulated=runs.emulated,
        notes=runs.notes,
        num_seeds=len(runs.requests),
        policies=tuple(firsts[name] for name in first_runs(runs)),
        settings=settings,
        against_baseline=_against_baseline(runs, seed),
        fronts=(front(runs, LATENCY), front(runs, JOULES)),
        power_versus_performance=power_against_performance(runs, settings),
    )


def first_runs(runs: SceneRuns) -> dict[str, PolicyRun]:
    """Return the run of each policy's first setting, by the policy's name, in order."""
    found: dict[str, PolicyRun] = {}
    for run in runs.runs:
        found.setdefault(run.policy, run)
    return found


def _against_baseline(runs: SceneRuns, seed: int) -> tuple[AgainstBaseline, ...]:
    policies = first_runs(runs)
    baseline = policies.pop(runs.baseline, None)
    if baseline is None:
        return ()
    num_claims = max(1, len(policies) * len(_GAINS))
    found = []
    for name, run in policies.items():
        each = [compare(runs, run, baseline, metric, seed=seed) for metric in _GAINS]
        gains = frozenset(
            metric
            for metric in _GAINS
            if claims_gain(runs, run, baseline, metric, seed=seed, num_claims=num_claims)
        )
        found.append(AgainstBaseline(name, tuple(one for one in each if one is not None), gains))
    return tuple(found)
