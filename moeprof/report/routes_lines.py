"""What a scene's figures say, in lines: what was run, who wins, and whose front."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from moeprof.evaluation.judge.metrics import JOULES, LATENCY, LATENCY_P95
from moeprof.evaluation.policies import BUNDLED
from moeprof.report import human
from moeprof.report.routes_winners import race
from moeprof.report.routes_words import change, label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moeprof.evaluation.judge.pareto import Duel, Verdict
    from moeprof.evaluation.runs import Claim
    from moeprof.recipe.load_scene import LoadedScene
    from moeprof.report.routes_scene import SceneReport
    from moeprof.report.routes_winners import Placed

READING: Final = (
    "± and [low, high]: 95 % intervals over seeds, paired; of cross-entropies over requests",
    "*: may claim to need less, with all claims of the scene counted",
    "exact: top-k's experts, so the model says the same; re-routed: other experts",
)
_CLAIMS: Final[tuple[Claim, ...]] = ("exact", "re-routed")
_METRICS: Final = {LATENCY: "mean latency", LATENCY_P95: "p95 latency", JOULES: "energy"}
_STANDINGS: Final[dict[Verdict, str]] = {
    "dominates": "dominates",
    "ties": "ties with",
    "is dominated": "is dominated by",
    "mixed": "is cheaper at some qualities and dearer at others than",
    "cannot tell": "cannot be told from",
    "unmatched": "is of better quality, all along, than any setting of",
}


def scene_words(loaded: LoadedScene) -> str:
    """Return the GPUs, the model and the traffic of a scene in a line."""
    scene, gpus, traffic = loaded.scene, loaded.scene.gpus, loaded.scene.traffic
    nodes = f" on {gpus.num_nodes} nodes" if gpus.num_nodes > 1 else ""
    return (
        f"{gpus.num_gpus} x {gpus.specification}{nodes}, {scene.model.layer}, "
        f"{traffic.batch_size} tokens a step, {traffic.kind} traffic, "
        f"{traffic.num_steps} steps x {scene.num_seeds} {_seeds(scene.num_seeds)}"
    )


def about_lines(report: SceneReport) -> Iterator[str]:
    """Yield what ran, and what of it is not measured."""
    judged = report.judged
    yield f"{scene_words(report.loaded)}; {report.runs.num_layers} MoE layers of a step"
    if judged.emulated:
        others = len(judged.emulated) - 1
        more = f" And {others} more: see the summary that --out writes." if others else ""
        yield f"emulated: {judged.emulated[0]}{more}"
    yield from judged.notes


def note_lines(report: SceneReport) -> Iterator[str]:
    """Yield what is to be known of this scene's tables beside `READING`."""
    judged = report.judged
    yield f"budget: {budget_words(report)}"
    if judged.num_seeds == 1:
        yield "one seed: how much another would differ is unknown, so nothing has an interval"
    reasons = {each.cross_entropy_reason for each in judged.policies} - {None}
    yield from (f"Δ cross-entropy {human.ABSENT}: {reason}" for reason in sorted(map(str, reasons)))
    if seen := sorted(report.seers & {each.policy for each in judged.policies}):
        yield f"{', '.join(seen)}: sees the truth, so a bound and no rival"


def budget_words(report: SceneReport) -> str:
    """Return the quality that a setting must be shown to have."""
    runs = report.runs
    if runs.traffic == "live":
        return f"at most {runs.budget_cross_entropy_nats:g} nats more, to the end of the interval"
    least = human.percent(runs.budget_gate_mass_fraction, digits=1)
    return f"at least {least} of gate mass retained, to the end of the interval"


def winner_lines(report: SceneReport) -> Iterator[str]:
    """Yield who needs the least latency and energy, exact and re-routed, and by how much."""
    hardware = report.judged.hardware
    for claim in _CLAIMS:
        races = [race(report, claim, metric) for metric in _METRICS]
        if races[0].winner is None:
            yield f"{claim}, {hardware}: no setting is shown to be within the budget"
            continue
        for each in races:
            assert each.winner is not None, "a setting within the budget is so for every metric"
            words = f"{claim}, {hardware}: least {_METRICS[each.metric]}: "
            words += _placed_words(report, each.winner)
            if each.next_best is not None:
                words += f"; next {_placed_words(report, each.next_best)}"
            yield words
    if report.judged.num_seeds > 1:
        yield f"(changes to {report.judged.baseline}; intervals hold for all settings at once)"


def _placed_words(report: SceneReport, placed: Placed) -> str:
    name = label(placed.figures.policy, placed.figures.setting)
    if placed.figures.policy == report.judged.baseline:
        return f"{name}, the baseline"
    if placed.ratio is None:
        return f"{name}, no change known"
    low, high = placed.ratio.low, placed.ratio.high
    doubt = ""
    if low is None or high is None:
        doubt = ", with no interval"
    elif low <= 1 <= high:
        doubt = ", which may be nothing"
    return f"{name} {change(placed.ratio)} %{doubt}"


def front_lines(report: SceneReport) -> Iterator[str]:
    """Yield how the bundled router's front stands to every rival's, a line for each standing."""
    claims = {each.policy: each.claim for each in report.judged.policies}
    if BUNDLED not in claims or len(claims) == 1:
        return
    about = f"{claims[BUNDLED]}, {report.judged.hardware}"
    for front in report.judged.fronts:
        cost = "latency" if front.cost_metric == LATENCY else "energy"
        duels = sorted(
            (each for each in front.duels if each.policy == BUNDLED), key=_standing_order
        )
        for verdict, group in groupby(duels, key=lambda each: each.verdict):
            rivals = ", ".join(each.rival for each in group)
            words = f"front of {cost}, {about}: {BUNDLED} "
            yield f"{words}{_STANDINGS[verdict]} {rivals}"


def _standing_order(duel: Duel) -> int:
    return list(_STANDINGS).index(duel.verdict)


def _seeds(number: int) -> str:
    return "seed" if number == 1 else "seeds"
