"""A picture of what adaptation learns over the steps: lambda, GPUs' factors, and gate mass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from moeprof.evaluation.judge.judged import first_runs
from moeprof.evaluation.policies import BUNDLED
from moeprof.report.routes_drawing import as_svg, colours_of, drawing, figure_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.evaluation.runs import PolicyRun
    from moeprof.report.routes_scene import SceneReport

_LAMBDA: Final = "lambda"
_SLOWNESS: Final = "slowness"
_MOST_GPUS: Final = 8


def draw_adaptation(report: SceneReport) -> bytes | None:
    """Return the curves of first settings as SVG, means over seeds; None: nothing adapted."""
    runs = [
        run for run in first_runs(report.runs).values() if {_LAMBDA, _SLOWNESS} <= run.curves.keys()
    ]
    if not runs:
        return None
    judged = report.judged
    title = (
        f"{judged.scene}: what adaptation learns, mean of {judged.num_seeds} seeds, "
        f"{report.runs.traffic} traffic, {judged.hardware}"
    )
    colours = colours_of([run.policy for run in runs], report.seers)
    learner = next((run for run in runs if run.policy == BUNDLED), runs[0])
    with drawing():
        figure, (first, second, third) = figure_of(3, title, width=13, height=4)
        for run in runs:
            _curve(first, run.curves[_LAMBDA].mean(axis=0), run.policy, colours[run.policy])
            mass = 100 * run.gate_mass_fraction.mean(axis=0)
            _curve(third, mass, run.policy, colours[run.policy])
        _slowness(second, report, learner)
        first.set_title("λ, unitless", loc="left")
        first.set_ylim(bottom=0)
        second.set_title(f"seconds over expected, as {learner.policy} has it", loc="left")
        third.set_title("gate mass retained, %", loc="left")
        if report.runs.traffic != "live":
            budget = 100 * report.runs.budget_gate_mass_fraction
            third.axhline(budget, color="black", linewidth=0.6, linestyle=":")
            third.annotate("budget", (1, budget), xycoords=("axes fraction", "data"), ha="right")
        for axes in (first, second, third):
            axes.set_xlabel("step after the settling ones")
        # Colours are the same on the right, where a legend would lie on the curves.
        for axes in (first, second):
            axes.legend(frameon=False, fontsize="small")
        return as_svg(figure)


def _curve(axes: Any, values: NDArray[np.float64], words: str, colour: str) -> None:
    axes.plot(np.arange(len(values)), values, color=colour, linewidth=1.2, label=words)


def _slowness(axes: Any, report: SceneReport, run: PolicyRun) -> None:
    learnt = run.curves[_SLOWNESS].mean(axis=0)
    truth = 1 / _speeds(report, len(learnt))
    for words, rows in _groups(learnt):
        (line,) = axes.plot(np.arange(len(learnt)), rows(learnt), linewidth=1.2, label=words)
        axes.plot(
            np.arange(len(learnt)), rows(truth), color=line.get_color(), linewidth=0.8,
            linestyle=":",
        )  # fmt: skip
    axes.plot([], [], color="0.3", linewidth=0.8, linestyle=":", label="1 / the scene's speed")


def _groups(learnt: NDArray[np.float64]) -> Sequence[tuple[str, Any]]:
    """Return every GPU, or of many the fastest, the middle and the slowest, and how to take it."""
    num_gpus = learnt.shape[1]
    if num_gpus <= _MOST_GPUS:
        return [
            (f"GPU {rank}", lambda values, rank=rank: values[:, rank]) for rank in range(num_gpus)
        ]
    return [
        ("slowest GPU", lambda values: values.max(axis=1)),
        ("median GPU", lambda values: np.median(values, axis=1)),
        ("fastest GPU", lambda values: values.min(axis=1)),
    ]


def _speeds(report: SceneReport, num_steps: int) -> NDArray[np.float64]:
    """Return the scene's speeds, [num_steps, num_gpus]."""
    gpus = report.loaded.scene.gpus
    speeds = np.broadcast_to(np.asarray(gpus.speed, dtype=np.float64), (num_steps, gpus.num_gpus))
    if gpus.changing_rank is not None:
        speeds = speeds.copy()
        speeds[gpus.changed_at_step :, gpus.changing_rank] = gpus.changed_speed
    return speeds
