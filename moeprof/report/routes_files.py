"""The files of a comparison of routers: JSON, Parquet, Markdown, and pictures where possible."""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final

from moeprof.dataset.files import replace_file
from moeprof.errors import UsageError
from moeprof.report.routes_adaptation import draw_adaptation
from moeprof.report.routes_drawing import can_draw
from moeprof.report.routes_front import draw_fronts
from moeprof.report.routes_lambda import draw_lambda
from moeprof.report.routes_markdown import summary_lines
from moeprof.report.routes_steps import write_steps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moeprof.evaluation.judge.gates import GateJudged
    from moeprof.report.routes_scene import SceneReport

DOCUMENT_NAME: Final = "route-eval.json"
STEPS_NAME: Final = "runs.parquet"
SUMMARY_NAME: Final = "summary.md"
STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"
"""The variable in which GitHub Actions names the file whose Markdown the job's page shows."""


def check_folder(out: Path) -> None:
    """Make the folder; raise UsageError where files cannot be written to it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):  # better refused now than after minutes
            pass
    except OSError as error:
        raise _unwritable(out, error) from error


def write_files(
    out: Path,
    reports: Sequence[SceneReport],
    gates: Sequence[GateJudged],
    document: Mapping[str, Any],
) -> tuple[str, ...]:
    """Write all files to a folder that exists, and return lines that say so.

    Raises UsageError: a file cannot be written.
    """
    steps = BytesIO()
    write_steps([each.every_run for each in reports], steps)
    files = {
        DOCUMENT_NAME: f"{json.dumps(document, indent=1, allow_nan=False)}\n".encode(),
        STEPS_NAME: steps.getvalue(),
        SUMMARY_NAME: _summary(reports, gates),
    }
    lines = []
    if can_draw():
        for report in reports:
            files |= _pictures(report)
    else:
        lines.append("no pictures: they need matplotlib, pip install 'moeprof[report]'")
    for name, content in files.items():
        try:
            replace_file(out / name, content)
        except OSError as error:
            raise _unwritable(out / name, error) from error
    return (*lines, f"written: {out}: {', '.join(files)}")


def append_step_summary(reports: Sequence[SceneReport], gates: Sequence[GateJudged]) -> None:
    """Append the summary to the file of GitHub Actions' step, where there is one.

    Raises UsageError: it cannot be written.
    """
    named = os.environ.get(STEP_SUMMARY)
    if not named:
        return
    try:
        with Path(named).open("ab") as file:
            file.write(_summary(reports, gates))
    except OSError as error:
        raise UsageError(
            f"{STEP_SUMMARY} {named}: cannot be written: {error.strerror}",
            hint=f"Unset {STEP_SUMMARY}, or name a file that can be written.",
        ) from error


def _summary(reports: Sequence[SceneReport], gates: Sequence[GateJudged]) -> bytes:
    return "\n".join(summary_lines(reports, gates)).encode()


def _pictures(report: SceneReport) -> dict[str, bytes]:
    scene = report.judged.scene
    drawn = {
        f"front-{scene}.svg": draw_fronts(report),
        f"adaptation-{scene}.svg": draw_adaptation(report),
        f"lambda-{scene}.svg": draw_lambda(report),
    }
    return {name: content for name, content in drawn.items() if content is not None}


def _unwritable(out: Path, error: OSError) -> UsageError:
    return UsageError(
        f"--out {out}: cannot be written: {error.strerror}", hint="Choose another folder."
    )
