"""The two tables of a scene, of what policies cost and of what they do to the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moeprof.evaluation.judge.metrics import JOULES, LATENCY
from moeprof.report import human
from moeprof.report.routes_grid import Grid
from moeprof.report.routes_words import (
    change,
    duration,
    latency_unit,
    millinats,
    setting_words,
    spread,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.evaluation.judge.figures import Figures
    from moeprof.report.routes_scene import SceneReport

_GAIN: Final = " *"
_NO_GAIN: Final = "  "


def cost_grid(report: SceneReport) -> Grid:
    """Return latency and energy of every policy's first setting, and their changes."""
    judged, policies = report.judged, report.sorted_policies()
    scale, unit, digits = latency_unit(policies[0].step_latency.estimate)
    rows = []
    for each in policies:
        quantiles = (each.p50_seconds, each.p95_seconds, each.p99_seconds)
        rows.append(
            (
                each.policy,
                each.claim,
                spread(each.step_latency, scale=scale, digits=digits),
                _change(report, each, LATENCY),
                *(f"{scale * seconds:.{digits}f}" for seconds in quantiles),
                spread(each.joules_per_token, scale=1e3, digits=2),
                _change(report, each, JOULES),
            )
        )
    against = f"to {judged.baseline}, %  "
    return Grid(
        title=f"cost: step latency and energy, {judged.hardware} hardware",
        heads=(
            "policy",
            "claim",
            f"mean, {unit}",
            against,
            "p50",
            "p95",
            "p99",
            "mJ/token",
            against,
        ),
        rows=tuple(rows),
        num_texts=2,
        sections=_sections(report, policies),
    )


def quality_grid(report: SceneReport) -> Grid:
    """Return what every policy's first setting does to experts, the model and the GPUs."""
    policies = report.sorted_policies()
    rows = []
    for each in policies:
        loss = each.cross_entropy
        rows.append(
            (
                each.policy,
                setting_words(each.setting),
                f"{each.active_experts.estimate:.1f}",
                f"{100 * each.gate_mass_retained.estimate:.1f}",
                f"{100 * each.selections_changed.estimate:.1f}",
                human.ABSENT if loss is None else millinats(loss),
                "yes" if report.is_within_budget(each) else "no",
                f"{each.peak_celsius.estimate:.1f}",
                duration(each.throttled.estimate),
                f"{1e6 * each.router_seconds:.1f}",
            )
        )
    return Grid(
        title=f"quality and GPUs: {report.runs.traffic} traffic",
        heads=(
            "policy",
            "setting",
            "experts\nactive",
            "gate\nmass, %",
            "changed\n%",
            "Δ cross-entropy\n0.001 nats",
            "in\nbudget",
            "peak\n°C",
            "throttled",
            "router\nµs",
        ),
        rows=tuple(rows),
        num_texts=2,
        sections=_sections(report, policies),
    )


def _change(report: SceneReport, figures: Figures, metric: str) -> str:
    found = next(
        (each for each in report.judged.against_baseline if each.policy == figures.policy), None
    )
    if found is None:
        return human.ABSENT + _NO_GAIN
    ratio = next(each.ratio for each in found.comparisons if each.metric == metric)
    return change(ratio) + (_GAIN if metric in found.gains else _NO_GAIN)


def _sections(report: SceneReport, policies: Sequence[Figures]) -> frozenset[int]:
    """Return the rows that begin the re-routed policies, and those that see the truth."""
    groups = [(each.policy in report.seers, each.claim) for each in policies]
    return frozenset(place for place in range(1, len(groups)) if groups[place] != groups[place - 1])
