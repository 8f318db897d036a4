"""A picture of what lambda does: experts in use, quality lost, latency and energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeprof.report.routes_drawing import OURS, as_svg, drawing, figure_of
from moeprof.report.routes_sweep import loss_words
from moeprof.report.routes_words import latency_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.evaluation.judge.student import Estimated
    from moeprof.report.routes_scene import SceneReport


def draw_lambda(report: SceneReport) -> bytes | None:
    """Return diversity, loss, latency and energy against lambda as SVG; None: none was swept."""
    rows = report.swept
    if not rows:
        return None
    judged = report.judged
    title = (
        f"{judged.scene}: marginal-cost (re-routed) by λ, {report.runs.traffic} traffic, "
        f"{judged.hardware}"
    )
    is_live = report.runs.traffic == "live"
    scale, unit, _ = latency_unit(rows[0].step_latency.estimate)
    panels = (
        ("experts active, %", 100, [row.diversity for row in rows], None),
        (loss_words(report), 1 if is_live else 100, [row.loss for row in rows], _budget(report)),
        (f"mean step latency, {unit}", scale, [row.step_latency for row in rows], None),
        ("energy, mJ/token", 1e3, [row.joules_per_token for row in rows], None),
    )
    baseline = next((each for each in judged.policies if each.policy == judged.baseline), None)
    with drawing():
        figure, many = figure_of(len(panels), title, width=13, height=3.4)
        for axes, (words, factor, found, line) in zip(many, panels, strict=True):
            _panel(axes, [float(row.value) for row in rows], found, factor)
            axes.set_title(words, loc="left")
            axes.set_xlabel("λ, unitless")
            if line is not None:
                _line(axes, factor * line, "budget")
        if baseline is not None:
            _line(many[2], scale * baseline.step_latency.estimate, judged.baseline)
            _line(many[3], 1e3 * baseline.joules_per_token.estimate, judged.baseline)
        return as_svg(figure)


def _panel(axes: Any, xs: Sequence[float], found: Sequence[Estimated], factor: float) -> None:
    middle = [factor * each.estimate for each in found]
    axes.plot(xs, middle, color=OURS, marker="o", markersize=4)
    lows = [factor * (each.estimate if each.low is None else each.low) for each in found]
    highs = [factor * (each.estimate if each.high is None else each.high) for each in found]
    axes.fill_between(xs, lows, highs, color=OURS, alpha=0.2, linewidth=0)


def _line(axes: Any, value: float, words: str) -> None:
    axes.axhline(value, color="black", linewidth=0.6, linestyle=":", label=words)
    axes.legend(frameon=False, fontsize="small")


def _budget(report: SceneReport) -> float:
    runs = report.runs
    if runs.traffic == "live":
        return runs.budget_cross_entropy_nats
    return 1 - runs.budget_gate_mass_fraction
