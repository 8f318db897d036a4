"""Whether optimising for power is the same goal as optimising for performance, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moeprof.evaluation.judge.question import SAME_FRACTION
from moeprof.report import human
from moeprof.report.routes_grid import Grid
from moeprof.report.routes_words import label, latency_unit, percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from moeprof.evaluation.judge.question import Answer, Choice
    from moeprof.report.routes_scene import SceneReport

TITLE: Final = "is optimising for power the same goal as optimising for performance?"
_ANSWERS: Final[Mapping[Answer, str]] = {
    "same": "one goal: either choice is within {limit} of the other, by both figures",
    "different": "two goals: one choice loses more than {limit} by the other's figure",
    "cannot tell": "cannot tell whether these are one goal",
}


def question_lines(report: SceneReport) -> Iterator[str]:
    """Yield both goals' choices, and what each loses by the other's figure."""
    judged, found = report.judged, report.judged.power_versus_performance
    if found.best_latency is None or found.best_energy is None:
        yield f"power against performance: cannot tell: {found.reason}"
        return
    yield (
        f"fastest: {_choice(report, found.best_latency)}; "
        f"most frugal: {_choice(report, found.best_energy)}"
    )
    answer = _ANSWERS[found.answer].format(limit=human.percent(SAME_FRACTION))
    reason = f": {found.reason}" if found.reason else ""
    regrets = ""
    if found.latency_regret is not None:
        regrets = (
            f"; the frugal choice costs {percent(found.latency_regret, sign='+')} % of latency, "
            f"the fast one {percent(found.energy_regret, sign='+')} % of energy"
        )
    compute = ", compute held constant" if report.runs.has_constant_compute else ""
    yield (
        f"{answer}{reason}{regrets} ({judged.hardware}; "
        f"{found.num_settings} of {len(judged.settings)} settings within the budget{compute})"
    )


def question_grid(reports: Sequence[SceneReport]) -> Grid:
    """Return the table of all scenes."""
    rows = []
    for report in reports:
        found = report.judged.power_versus_performance
        choices = (found.best_latency, found.best_energy)
        rows.append(
            (
                report.judged.scene,
                *(human.ABSENT if each is None else label(each.policy, each.setting)
                  for each in choices),
                percent(found.latency_regret, sign="+"),
                percent(found.energy_regret, sign="+"),
                found.answer,
            )
        )  # fmt: skip
    return Grid(
        title=TITLE,
        heads=(
            "scene",
            "fastest setting",
            "most frugal setting",
            "frugal's\nlatency, %",
            "fastest's\nenergy, %",
            "same goal?",
        ),
        rows=tuple(rows),
        num_texts=3,
    )


def _choice(report: SceneReport, choice: Choice) -> str:
    scale, unit, digits = latency_unit(choice.step_latency_seconds)
    claim = next(each.claim for each in report.judged.policies if each.policy == choice.policy)
    return (
        f"{label(choice.policy, choice.setting)}, {claim}, "
        f"{scale * choice.step_latency_seconds:.{digits}f} {unit}, "
        f"{1e3 * choice.mean_joules_per_token:.2f} mJ/token"
    )
