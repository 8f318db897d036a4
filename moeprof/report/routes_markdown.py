"""A comparison of routers as Markdown that a CI page can show, gates first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.report.routes_gates import gates_grid
from moeprof.report.routes_grid import as_plain, markdown_table
from moeprof.report.routes_lines import (
    READING,
    front_lines,
    note_lines,
    scene_words,
    winner_lines,
)
from moeprof.report.routes_question import question_grid, question_lines
from moeprof.report.routes_sweep import sweep_grid
from moeprof.report.routes_tables import cost_grid, quality_grid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from moeprof.evaluation.judge.gates import GateJudged
    from moeprof.report.routes_scene import SceneReport


def summary_lines(reports: Sequence[SceneReport], gates: Sequence[GateJudged]) -> Iterator[str]:
    """Yield the summary: gates, power against performance, and every scene."""
    yield "# moeprof route-eval"
    yield ""
    if gates:
        yield from markdown_table(gates_grid(gates, {each.judged.scene: each for each in reports}))
    yield from markdown_table(question_grid(reports))
    yield from _items(READING)
    for report in reports:
        yield from _scene_lines(report)


def _scene_lines(report: SceneReport) -> Iterator[str]:
    judged = report.judged
    yield f"## {as_plain(judged.scene)}"
    yield ""
    yield as_plain(judged.question)
    yield ""
    yield as_plain(f"{scene_words(report.loaded)}; {report.runs.num_layers} MoE layers of a step")
    yield ""
    for grid in (cost_grid(report), quality_grid(report), sweep_grid(report)):
        if grid is not None:
            yield from markdown_table(grid)
    yield from _items((*note_lines(report), *judged.notes))
    yield "Who wins:"
    yield ""
    yield from _items((*winner_lines(report), *front_lines(report), *question_lines(report)))
    if judged.emulated:
        yield "Emulated:"
        yield ""
        yield from _items(judged.emulated)


def _items(lines: Iterable[str]) -> Iterator[str]:
    yield from (f"- {as_plain(line)}" for line in lines)
    yield ""
