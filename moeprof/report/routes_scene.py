"""One scene as it is reported: what was asked for, what ran, and the judgement of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moeprof.evaluation.judge.judged import judge
from moeprof.evaluation.judge.question import (
    LeftOut,
    power_against_performance,
    reason_to_leave_out,
)
from moeprof.evaluation.judge.sweep import sweep
from moeprof.evaluation.policies import BUNDLED, ORACLE
from moeprof.evaluation.run import policies_of, settings_of

if TYPE_CHECKING:
    from moeprof.evaluation.judge.figures import Figures
    from moeprof.evaluation.judge.judged import SceneJudged
    from moeprof.evaluation.judge.sweep import SweepRow
    from moeprof.evaluation.runs import SceneRuns
    from moeprof.recipe.load_scene import LoadedScene

KNOB = "lambda_"


@dataclass(frozen=True, slots=True, eq=False)
class SceneReport:
    """A scene; `runs` and `judged` leave out what was run for the sweep only, `every_run` has it.

    `seers` are the policies that see the truth: bounds of what can be had, not rivals.
    """

    loaded: LoadedScene
    every_run: SceneRuns
    runs: SceneRuns
    judged: SceneJudged
    swept: tuple[SweepRow, ...]
    seers: frozenset[str]

    def sorted_policies(self) -> tuple[Figures, ...]:
        """Return first settings: the baseline, exact ones, re-routed ones, then those that see.

        Each of the groups by mean latency.
        """
        return tuple(
            sorted(
                self.judged.policies,
                key=lambda each: (
                    each.policy != self.judged.baseline,
                    each.policy in self.seers,
                    each.claim != "exact",
                    each.step_latency.estimate,
                    each.policy,
                ),
            )
        )

    def is_within_budget(self, figures: Figures) -> bool:
        """Whether a setting's quality is shown to be within the scene's budget."""
        place = self.judged.settings.index(figures)
        return reason_to_leave_out(self.runs, self.runs.runs[place], figures) is None


def scene_report(loaded: LoadedScene, every_run: SceneRuns, *, is_swept: bool) -> SceneReport:
    """Return a scene judged by the settings that it declares."""
    declared = [(policy.name, dict(each)) for policy, each in settings_of(loaded)]
    runs = replace(
        every_run,
        runs=tuple(run for run in every_run.runs if (run.policy, dict(run.setting)) in declared),
    )
    swept: tuple[SweepRow, ...] = ()
    if is_swept:
        num_experts = loaded.model.layer.num_experts
        # With another knob beside it, lambda alone would not say what a row is.
        alone = tuple(run for run in every_run.runs if set(run.setting) == {KNOB})
        swept = sweep(
            replace(every_run, runs=alone),
            BUNDLED,
            num_experts=num_experts,
            seed=loaded.scene.seed,
            knob=KNOB,
        )
    seers = frozenset(
        policy.name
        for policy in policies_of(loaded)
        if ORACLE in (policy.router, policy.dispatcher)
    )
    return SceneReport(
        loaded=loaded,
        every_run=every_run,
        runs=runs,
        judged=_without_seers(runs, judge(runs, seed=loaded.scene.seed), seers),
        swept=swept,
        seers=seers,
    )


def _without_seers(runs: SceneRuns, judged: SceneJudged, seers: frozenset[str]) -> SceneJudged:
    """Return a judgement in which neither goal may choose who sees the truth."""
    seen = tuple(run for run in runs.runs if run.policy in seers)
    if not seen:
        return judged
    others = replace(runs, runs=tuple(run for run in runs.runs if run.policy not in seers))
    settings = [each for each in judged.settings if each.policy not in seers]
    question = power_against_performance(others, settings)
    left_out = tuple(LeftOut(run.policy, run.setting, "sees the truth") for run in seen)
    return replace(
        judged,
        power_versus_performance=replace(question, left_out=(*question.left_out, *left_out)),
    )
