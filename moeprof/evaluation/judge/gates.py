"""Gates judged: pass where the bounds keep the margin, fail where they break it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

from moeprof.errors import RecipeError
from moeprof.evaluation.judge.compare import compare
from moeprof.evaluation.judge.document import rounded
from moeprof.evaluation.judge.figures import metric_figure
from moeprof.evaluation.judge.judged import first_runs
from moeprof.evaluation.judge.metrics import QUANTILES
from moeprof.evaluation.judge.quantiles import quantile
from moeprof.evaluation.judge.since import less, over
from moeprof.evaluation.judge.student import ROUNDING, Estimated
from moeprof.recipe.gates import EVERY_SCENE, STORED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from moeprof.evaluation.judge.stored import StoredResult
    from moeprof.evaluation.runs import PolicyRun, SceneRuns
    from moeprof.recipe.gates import GateSection

Verdict = Literal["pass", "fail", "inconclusive"]
_MOST_SEEDS: Final = 10_000  # what a scene may ask for


@dataclass(frozen=True, slots=True)
class GateJudged:
    """A gate in one scene; what was found is in the metric's unit, or a ratio, as the margin."""

    name: str
    scene: str
    gate: GateSection
    found: Estimated
    verdict: Verdict
    num_more_seeds: int | None
    """How many more seeds an inconclusive gate needs, at least; None: no number is known to help,
    or none is needed."""

    def document(self) -> dict[str, Any]:
        """Return what stands in the list of gates in the JSON of `route-eval`."""
        document: dict[str, Any] = rounded(
            {
                "name": self.name,
                "scene": self.scene,
                "verdict": self.verdict,
                "margin": self.gate.margin[1],
                "estimate": self.found.estimate,
                "low": self.found.low,
                "high": self.found.high,
                "num_more_seeds": self.num_more_seeds,
            }
        )
        return document


def overall(gates: Iterable[GateJudged]) -> Verdict:
    """Return fail if any gate fails, else inconclusive if any is, else pass."""
    verdicts = {gate.verdict for gate in gates}
    if "fail" in verdicts:
        return "fail"
    return "inconclusive" if "inconclusive" in verdicts else "pass"


def judge_gates(
    gates: Iterable[GateSection],
    scenes: Mapping[str, SceneRuns],
    *,
    path: Path,
    seed: int,
    stored: StoredResult | None = None,
) -> tuple[GateJudged, ...]:
    """Return every gate's verdict in every scene it is for, by each policy's first setting.

    `path` is the gates file, for messages. Raises RecipeError naming the file, the gate and the
    nearest name: a scene or policy was not run, or a metric is not known there; InputError: the
    stored result lacks what a gate compares with.
    """
    found = []
    for gate in gates:
        where = f"{path}: gate {gate.name!r}"
        for scene in _scenes_of(gate, scenes, where):
            figure, fixed_half = _found(gate, scenes[scene], where, seed=seed, stored=stored)
            key, margin = gate.margin
            verdict = verdict_of(figure, margin, at_least=key == "at_least")
            more = None
            if verdict == "inconclusive":
                num_seeds = len(scenes[scene].requests)
                more = more_seeds(figure, margin, num_seeds=num_seeds, fixed_half=fixed_half)
            found.append(GateJudged(gate.name, scene, gate, figure, verdict, more))
    return tuple(found)


def verdict_of(found: Estimated, margin: float, *, at_least: bool) -> Verdict:
    """Return pass where the bound that is worse keeps the margin, fail where the better breaks it.

    A bound that is None may be anything.
    """
    low = -math.inf if found.low is None else found.low
    high = math.inf if found.high is None else found.high
    slack = ROUNDING * abs(margin)
    if low >= margin - slack if at_least else high <= margin + slack:
        return "pass"
    if high < margin - slack if at_least else low > margin + slack:
        return "fail"
    return "inconclusive"


def more_seeds(
    found: Estimated, margin: float, *, num_seeds: int, fixed_half: float = 0.0
) -> int | None:
    """Return how many more seeds bring the margin out of the bounds, if the estimate stays.

    Bounds come nearer with the square root of the number of seeds; from few seeds a little faster,
    so that this is enough. `fixed_half` is the part of their distance that no seed of this run
    makes smaller. None: that part or the estimate itself is in the way, no bound is known, or it
    takes more than a scene may have. One seed, which has no bounds, needs another to know.
    """
    if num_seeds == 1:
        return 1
    gap = abs(margin - found.estimate)
    bounds = (found.high, found.low) if margin > found.estimate else (found.low, found.high)
    # Where the side that matters has no bound, the other side's distance stands in.
    bound = next((each for each in bounds if each is not None), None)
    if gap <= fixed_half or bound is None:
        return None
    shrinking = (bound - found.estimate) ** 2 - fixed_half**2
    # Rounding asks for no seed more.
    needed = num_seeds * shrinking / (gap**2 - fixed_half**2) * (1 - ROUNDING)
    if needed > _MOST_SEEDS:
        return None
    return max(1, math.ceil(needed) - num_seeds)


def _scenes_of(gate: GateSection, scenes: Mapping[str, SceneRuns], where: str) -> tuple[str, ...]:
    if gate.scene != EVERY_SCENE:
        if gate.scene not in scenes:
            raise _unknown(where, "scene", gate.scene, scenes)
        return (gate.scene,)
    needed = {gate.policy, gate.against} - {None, STORED}
    fitting = tuple(
        name
        for name, runs in scenes.items()
        if needed <= {run.policy for run in runs.runs} and not _is_unknown(gate, runs)
    )
    if not fitting:
        every = {run.policy: None for runs in scenes.values() for run in runs.runs}
        for name in (gate.policy, gate.against):
            if name is not None and name != STORED and name not in every:
                raise _unknown(where, "policy", name, every)
        raise RecipeError(
            f"{where}: no scene that was run has its policies and knows {gate.metric}"
        )
    return fitting


def _is_unknown(gate: GateSection, runs: SceneRuns) -> bool:
    """Whether the metric is one of a live model and the scene had none."""
    if not gate.metric.startswith("delta_cross_entropy_nats"):
        return False
    policies = first_runs(runs)
    held = [policies[name] for name in (gate.policy, gate.against) if name in policies]
    return any(run.claim != "exact" and run.loss_difference_nats is None for run in held)


def _found(
    gate: GateSection, runs: SceneRuns, where: str, *, seed: int, stored: StoredResult | None
) -> tuple[Estimated, float]:
    """Return what the margin is for, and how much of its half-width an earlier result brings."""
    run = _run(gate.policy, runs, where)
    is_difference = gate.margin[0] == "at_most_difference"
    if gate.against is not None and gate.against != STORED:
        rival = _run(gate.against, runs, where)
        compared = compare(runs, run, rival, gate.metric, seed=seed)
        if compared is None:
            raise _not_live(where, gate, runs)
        found = compared.difference if is_difference else compared.ratio
        if found is None:
            raise _over_zero(where, gate, gate.against)
        return found, 0.0
    now = _absolute(gate, runs, run, seed)
    if now is None:
        raise _not_live(where, gate, runs)
    if gate.against is None:
        return now, 0.0
    assert stored is not None, "load_gates refuses a gate against a result that is not given"
    then = stored.figure(runs.scene, gate.policy, gate.metric)
    if then.estimate == 0 and not is_difference:
        raise _over_zero(where, gate, str(stored.path))
    return (less if is_difference else over)(now, then)


def _absolute(gate: GateSection, runs: SceneRuns, run: PolicyRun, seed: int) -> Estimated | None:
    if gate.metric in QUANTILES:
        return quantile(run.step_seconds, QUANTILES[gate.metric])
    head, _, ending = gate.metric.partition(".")
    metric = f"{head}.mean" if ending in {"low", "high"} else gate.metric
    return metric_figure(runs, run, metric, seed=seed)


def _run(name: str, runs: SceneRuns, where: str) -> PolicyRun:
    policies = first_runs(runs)
    if name not in policies:
        raise _unknown(f"{where}: scene {runs.scene!r}", "policy", name, policies)
    return policies[name]


def _unknown(where: str, kind: str, name: str, known: Iterable[str]) -> RecipeError:
    names = list(known)
    near = get_close_matches(name, names, n=1)
    ending = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    return RecipeError(f"{where}: no {kind} {name!r} was run; {ending}")


def _not_live(where: str, gate: GateSection, runs: SceneRuns) -> RecipeError:
    return RecipeError(
        f"{where}: {gate.metric} is not known in scene {runs.scene!r}, whose traffic is "
        f"{runs.traffic}",
        hint="Give a scene of live traffic, or hold gate_mass_retained to a margin.",
    )


def _over_zero(where: str, gate: GateSection, what: str) -> RecipeError:
    return RecipeError(
        f"{where}: {gate.metric} of {what} is 0, to which there is no ratio",
        hint="Give at_most_difference instead of at_most_ratio.",
    )
