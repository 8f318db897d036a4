"""A picture of all settings of a scene: what they lose in quality, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from moeprof.evaluation.judge.metrics import LATENCY
from moeprof.evaluation.judge.pareto import undominated
from moeprof.evaluation.policies import BUNDLED
from moeprof.report.routes_drawing import as_svg, colours_of, drawing, figure_of, spread_out
from moeprof.report.routes_sweep import loss_words
from moeprof.report.routes_words import latency_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.evaluation.judge.pareto import Front, FrontPoint
    from moeprof.report.routes_scene import SceneReport

_BUDGETS_SHOWN: Final = 4.0
_MOST_BUDGETS: Final = 10.0
_LABELS: Final = 0.42  # room for names on either side, of what lies between
_GAP: Final = 0.042
_MARKERS: Final = {"exact": "s", "re-routed": "o"}


@dataclass(frozen=True, slots=True)
class _Scales:
    """What a loss and a cost are multiplied by, and the least and most loss that is drawn."""

    loss_scale: int
    cost_scale: int
    losses: tuple[float, float]

    @property
    def least_loss(self) -> float:
        return self.losses[0]

    @property
    def most_loss(self) -> float:
        return self.losses[1]


def draw_fronts(report: SceneReport) -> bytes:
    """Return the fronts of latency and of energy as SVG; every policy is labelled."""
    judged = report.judged
    fronts = judged.fronts
    title = (
        f"{judged.scene}: quality lost and cost, {report.runs.traffic} traffic, "
        f"{judged.hardware} hardware"
    )
    with drawing():
        figure, panels = figure_of(len(fronts), title, width=13, height=5.4)
        for axes, front in zip(panels, fronts, strict=True):
            _panel(axes, report, front)
        return as_svg(figure)


def _panel(axes: Any, report: SceneReport, front: Front) -> None:
    scales, unit = _scales(report, front)
    points = {
        name: [each for each in front.points if each.policy == name]
        for name in dict.fromkeys(each.policy for each in front.points)
    }
    colours = colours_of(points, report.seers)
    claims = {each.policy: each.claim for each in report.judged.policies}
    _best(axes, [each for each in front.points if each.policy not in report.seers], scales)
    labels: dict[str, list[tuple[str, float, float, str]]] = {"exact": [], "re-routed": []}
    for name, own in points.items():
        own.sort(key=lambda each: each.loss.estimate)
        shown = [each for each in own if scales.loss_scale * each.loss.estimate <= scales.most_loss]
        _series(axes, shown, scales, colours[name], _MARKERS[claims[name]], is_ours=name == BUNDLED)
        last, words = (shown[-1], name) if shown else (own[0], _far(name, own[0], scales))
        loss = min(scales.loss_scale * last.loss.estimate, scales.most_loss)
        cost = scales.cost_scale * last.cost.estimate
        axes.update_datalim([(loss, cost)])
        labels[claims[name]].append((words, loss, cost, colours[name]))
    reach = _LABELS * (scales.most_loss - scales.least_loss)
    axes.set_xlim(scales.least_loss - reach, scales.most_loss + reach)
    axes.margins(y=0.08)
    axes.autoscale_view(scalex=False)
    _label(axes, labels["exact"], scales.least_loss - 0.12 * reach, "right")
    _label(axes, labels["re-routed"], scales.most_loss + 0.12 * reach, "left")
    budget = scales.loss_scale * _budget(report)
    axes.axvline(budget, color="black", linewidth=0.6, linestyle=":")
    axes.annotate("budget", (budget, 1), xycoords=("data", "axes fraction"), ha="center")
    ticks = [tick for tick in axes.get_xticks() if scales.least_loss <= tick <= scales.most_loss]
    axes.set_xticks(ticks)
    axes.set_xlabel(f"{loss_words(report)}   (■ exact, ● re-routed)")
    axes.set_ylabel(unit)


def _scales(report: SceneReport, front: Front) -> tuple[_Scales, str]:
    scale = 1 if report.runs.traffic == "live" else 100
    budget = scale * _budget(report)
    ours = [scale * each.loss.estimate for each in front.points if each.policy == BUNDLED]
    most = min(max([_BUDGETS_SHOWN * budget, *ours]), _MOST_BUDGETS * budget) * 1.03
    least = min([0.0, *(scale * each.loss.estimate for each in front.points)])
    if front.cost_metric == LATENCY:
        per_second, unit, _ = latency_unit(front.points[0].cost.estimate)
        return _Scales(scale, per_second, (least, most)), f"mean step latency, {unit}"
    return _Scales(scale, 1_000, (least, most)), "energy, mJ/token"


def _budget(report: SceneReport) -> float:
    runs = report.runs
    if runs.traffic == "live":
        return runs.budget_cross_entropy_nats
    return 1 - runs.budget_gate_mass_fraction


def _best(axes: Any, points: Sequence[FrontPoint], scales: _Scales) -> None:
    """Draw what no policy beats: as far as a loss goes, the least cost."""
    losses = np.array([each.loss.estimate for each in points])
    costs = np.array([each.cost.estimate for each in points])
    kept = undominated(losses, costs) & (scales.loss_scale * losses <= scales.most_loss)
    best = sorted(np.flatnonzero(kept), key=lambda place: float(losses[place]))
    axes.step(
        [*(scales.loss_scale * losses[best]), scales.most_loss],
        [*(scales.cost_scale * costs[best]), scales.cost_scale * costs[best[-1]]],
        where="post",
        color="0.85",
        linewidth=5,
        zorder=0,
    )


def _series(
    axes: Any,
    points: Sequence[FrontPoint],
    scales: _Scales,
    colour: str,
    marker: str,
    *,
    is_ours: bool,
) -> None:
    xs = [scales.loss_scale * each.loss.estimate for each in points]
    ys = [scales.cost_scale * each.cost.estimate for each in points]
    bounds = [(each.cost.low, each.cost.estimate, each.cost.high) for each in points]
    errors = [
        [scales.cost_scale * (0.0 if low is None else middle - low) for low, middle, _ in bounds],
        [
            scales.cost_scale * (0.0 if high is None else high - middle)
            for _, middle, high in bounds
        ],
    ]
    axes.errorbar(
        xs,
        ys,
        yerr=errors,
        color=colour,
        marker=marker,
        markersize=6 if is_ours else 4,
        linewidth=2 if is_ours else 0.8,
        elinewidth=0.8,
        zorder=3 if is_ours else 2,
    )


def _far(name: str, point: FrontPoint, scales: _Scales) -> str:
    return f"{name}, at {scales.loss_scale * point.loss.estimate:.3g} →"


def _label(
    axes: Any, labels: Sequence[tuple[str, float, float, str]], column: float, side: str
) -> None:
    """Write names in a column, each with a line to its point."""
    low, high = axes.get_ylim()
    heights = spread_out([(cost - low) / (high - low) for _, _, cost, _ in labels], gap=_GAP)
    for (words, loss, cost, colour), height in zip(labels, heights, strict=True):
        axes.annotate(
            words,
            (loss, cost),
            xytext=(column, low + height * (high - low)),
            textcoords="data",
            ha=side,
            va="center",
            color=colour,
            fontweight="bold" if words.startswith(BUNDLED) else "normal",
            arrowprops={
                "arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6, "shrinkB": 2
            },
        )  # fmt: skip
