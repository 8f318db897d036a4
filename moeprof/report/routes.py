"""What `moeprof route-eval` shows: scenes run and judged, tables, gates, and files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from moeprof.errors import ExitCode, StoppedAtOnce
from moeprof.evaluation.judge.gates import judge_gates, overall
from moeprof.evaluation.run import evaluate
from moeprof.report.consoles import console_on, print_json
from moeprof.report.interrupts import interrupt_on_term
from moeprof.report.routes_document import routes_document
from moeprof.report.routes_files import append_step_summary, check_folder, write_files
from moeprof.report.routes_gates import gate_line, verdict_words
from moeprof.report.routes_grid import terminal_table
from moeprof.report.routes_lines import (
    READING,
    about_lines,
    front_lines,
    note_lines,
    winner_lines,
)
from moeprof.report.routes_progress import routes_progress
from moeprof.report.routes_question import question_grid, question_lines
from moeprof.report.routes_scene import scene_report
from moeprof.report.routes_sweep import sweep_grid
from moeprof.report.routes_tables import cost_grid, quality_grid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from moeprof.evaluation.judge.gates import GateJudged, Verdict
    from moeprof.report.routes_request import RouteRequest
    from moeprof.report.routes_scene import SceneReport

_EXIT_CODES: Final[dict[Verdict, ExitCode]] = {
    "pass": ExitCode.DONE,
    "fail": ExitCode.GATE_FAILED,
    "inconclusive": ExitCode.GATE_INCONCLUSIVE,
}


def show_route_eval(request: RouteRequest, *, out: Path | None, as_json: bool) -> ExitCode:
    """Run the scenes, print what they show, and return the code of the gates' verdict.

    Raises UsageError, RecipeError and whatever else `evaluate` raises, StoppedAtOnce.
    """
    if out is not None:
        check_folder(out)
    reports = _run(request)
    gates = _judged_gates(request, reports)
    document = routes_document(reports, gates)
    written = () if out is None else write_files(out, reports, gates, document)
    if gates:
        append_step_summary(reports, gates)
    if as_json:
        print_json(document)
    else:
        _print(console_on(sys.stdout), request, reports, gates)
        for line in written:
            console_on(sys.stdout).print(line, soft_wrap=True)
    return _EXIT_CODES[overall(gates)]


def _run(request: RouteRequest) -> tuple[SceneReport, ...]:
    try:
        with interrupt_on_term(), routes_progress(console_on(sys.stderr)) as on_progress:
            runs = evaluate(
                request.scenes,
                request.cost,
                num_workers=request.num_workers,
                only=request.only,
                lambdas=request.lambdas,
                on_progress=on_progress,
            )
            return tuple(
                scene_report(each, runs[each.name], is_swept=bool(request.lambdas))
                for each in request.scenes
            )
    except KeyboardInterrupt as order:
        raise StoppedAtOnce(
            "interrupted: nothing was judged", hint="The same command starts it anew."
        ) from order


def _judged_gates(request: RouteRequest, reports: Sequence[SceneReport]) -> tuple[GateJudged, ...]:
    if request.gates is None:
        return ()
    return judge_gates(
        request.gates.gates,
        {each.judged.scene: each.runs for each in reports},
        path=request.gates.path,
        seed=request.seed,
        stored=request.stored,
    )


def _print(
    console: Console,
    request: RouteRequest,
    reports: Sequence[SceneReport],
    gates: Sequence[GateJudged],
) -> None:
    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    model = "what ships for each GPU" if request.model is None else str(request.model)
    for line in (f"cost model: {model}", *READING):
        say(line)
    for report in reports:
        say("")
        console.print(f"{report.judged.scene}: {report.judged.question}", style="bold")
        for line in about_lines(report):
            say(line)
        for grid in (cost_grid(report), quality_grid(report), sweep_grid(report)):
            if grid is not None:
                say("")
                console.print(terminal_table(grid))
        say("")
        for line in (
            *note_lines(report),
            *winner_lines(report),
            *front_lines(report),
            *question_lines(report),
        ):
            say(line)
    say("")
    console.print(terminal_table(question_grid(reports)))
    say("")
    by_name = {each.judged.scene: each for each in reports}
    for gate in gates:
        say(gate_line(gate, by_name))
    if gates:
        say(verdict_words(gates))
