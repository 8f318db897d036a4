"""What `moeprof selfcheck` shows: an audit watched, its findings printed and kept."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from moeprof.device.registry import open_device
from moeprof.device.sim.device import PREFIX, simulated_gpu
from moeprof.errors import ExitCode, StoppedAtOnce, UsageError
from moeprof.report.consoles import console_on, print_json
from moeprof.report.coverage_picture import check_drawing, draw_coverage
from moeprof.report.findings import findings_document, findings_table, markdown_lines
from moeprof.report.interrupts import interrupt_on_term
from moeprof.selfcheck.audit import CHECKS, audit, selected
from moeprof.selfcheck.finding import Verdict
from moeprof.selfcheck.on_device.audit import PARTS, audit_device

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from moeprof.selfcheck.finding import Finding


def show_audit(
    selector: str,
    *,
    seed: int,
    num_trials_max: int | None,
    only: Sequence[str],
    out: Path | None,
    as_json: bool,
) -> ExitCode:
    """Audit the method on simulated GPUs, or what of it can be audited on a real device.

    Raises UsageError for a name in `only` that is not known, DeviceUnavailable, StoppedAtOnce.
    """
    is_simulated = selector.startswith(PREFIX)
    if num_trials_max is not None and not is_simulated:
        raise UsageError(
            "--runs counts trials on simulated GPUs; a real device is audited once",
            hint="Leave --runs out, or choose --device sim:h200-sxm.",
        )
    if out is not None:
        _make_folder(out)
        check_drawing(out)
    try:
        with interrupt_on_term():
            if is_simulated:
                findings = _simulated(selector, seed, num_trials_max, only)
            else:
                findings = _on_device(selector, seed, only)
    except KeyboardInterrupt as order:
        raise StoppedAtOnce(
            "interrupted: the audit has found nothing yet", hint="The same command starts it anew."
        ) from order
    verdict = exit_code(findings)
    complete = num_trials_max is None
    document = findings_document(
        findings,
        device=selector,
        seed=seed,
        complete=complete,
        kept=verdict is ExitCode.DONE and complete,
    )
    if out is not None:
        _write(out / "selfcheck.json", json.dumps(document, indent=1, allow_nan=False))
        _write(out / "selfcheck.md", "\n".join(markdown_lines(findings)))
        draw_coverage(findings, out / "interval-coverage.svg")
    if as_json:
        print_json(document)
        return verdict
    console = console_on(sys.stdout)
    title = f"promised and achieved on {selector}, seed {seed}"
    console.print(findings_table(findings, title=title))
    console.print(_summary(findings))
    if not complete:
        console.print("fewer trials than the promises need: a figure within its bounds is no proof")
    elif verdict is ExitCode.GATE_INCONCLUSIVE and not is_simulated:
        console.print("is something else running on this device? Stop it, and audit it again")
    if out is not None:
        console.print(f"written: {out}", soft_wrap=True)
    return verdict


def _num_cores() -> int:
    # What this process may use, where the system tells.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _write(path: Path, text: str) -> None:
    path.write_text(f"{text}\n", encoding="utf-8")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "selfcheck.json").open("a"):  # better refused now than after the audit
            pass
    except OSError as error:
        raise UsageError(
            f"--out {out}: must be a folder that can be written, got {error.strerror}",
            hint="Choose another folder.",
        ) from error


def _simulated(
    selector: str, seed: int, num_trials_max: int | None, only: Sequence[str]
) -> tuple[Finding, ...]:
    checks, gpu = selected(only, CHECKS), simulated_gpu(selector)
    with _progress(console_on(sys.stderr)) as bar:
        task = bar.add_task("starting", total=None)
        return audit(
            checks,
            gpu,
            seed=seed,
            num_trials_max=num_trials_max,
            num_workers=_num_cores(),
            on_progress=lambda check, num_done, num_trials: bar.update(
                task, description=check, completed=num_done, total=num_trials
            ),
        )


def _on_device(selector: str, seed: int, only: Sequence[str]) -> tuple[Finding, ...]:
    parts = selected(only, PARTS)
    device = open_device(selector, seed=seed)
    try:
        with _progress(console_on(sys.stderr)) as bar:
            task = bar.add_task("starting", total=len(parts))
            return audit_device(
                parts,
                device,
                seed=seed,
                on_progress=lambda part, number: bar.update(
                    task, description=part, completed=number
                ),
            )
    finally:
        device.close()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def exit_code(findings: Sequence[Finding]) -> ExitCode:
    """Return GATE_FAILED for a broken promise, GATE_INCONCLUSIVE for one that may be broken.

    GATE_INCONCLUSIVE as well where no promise could be tried: nothing kept is no success.
    """
    verdicts = {each.verdict for each in findings}
    if Verdict.BROKEN in verdicts:
        return ExitCode.GATE_FAILED
    if Verdict.INCONCLUSIVE in verdicts or Verdict.KEPT not in verdicts:
        return ExitCode.GATE_INCONCLUSIVE
    return ExitCode.DONE


def _summary(findings: Sequence[Finding]) -> str:
    counts = {verdict: sum(each.verdict is verdict for each in findings) for verdict in Verdict}
    parts = [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
    return f"promises: {', '.join(parts)}"
