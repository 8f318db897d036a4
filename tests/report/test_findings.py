"""Claims about how the findings of an audit are shown, and what they end the command with."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from moeprof.errors import ExitCode
from moeprof.report.audit import exit_code
from moeprof.report.coverage_picture import draw_coverage
from moeprof.report.findings import achieved, findings_document, findings_table, markdown_lines
from moeprof.selfcheck.finding import Finding, Verdict

if TYPE_CHECKING:
    from pathlib import Path

BINS = {"0.0 to 0.2": {"achieved": 0.951, "num_trials": 2000}}
KEPT = Finding("interval_coverage", "93 % to 97 %", Verdict.KEPT, 0.951, 2000, "worst: 0.0", BINS)
BESIDE = Finding("coverage_of_stdrel", "beside it", Verdict.TOLD, 0.4, 2000, None, BINS)
SKIPPED = Finding("energy", "at most 1 %", Verdict.SKIPPED, None, 0, "no counter")
BROKEN = Finding("hold_error_celsius", "at most 1.0", Verdict.BROKEN, 1.013, 120)
UNSURE = Finding("throttle_recall", "at least 99 %", Verdict.INCONCLUSIVE, 0.98, 100)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sensor_lag_error_seconds", 0.0031, "3.10 ms"),
        ("hold_error_celsius", 0.934, "0.93 °C"),
        ("hold_drift_celsius_per_minute", 0.1, "0.10 °C/min"),
        ("samples_vs_stdrel", 0.2101, "0.21×"),
        ("half_width_fraction_per_celsius", 0.00027, "0.027 %/°C"),
        ("cold_over_warm", 1.5, "1.50×"),
        ("interval_coverage", 0.9512, "95.12 %"),
    ],
)
def test_a_figure_is_shown_in_the_unit_of_its_name(name: str, value: float, words: str) -> None:
    assert achieved(Finding(name, "", Verdict.KEPT, value, 1)) == words


def test_what_was_not_achieved_is_a_dash_and_never_a_number() -> None:
    assert achieved(SKIPPED) == "-"


def test_the_table_names_figure_promise_achievement_trials_and_verdict() -> None:
    console = Console(width=140, record=True)
    console.print(findings_table([KEPT, SKIPPED], title="an audit"))
    text = console.export_text()

    assert re.search(r"interval_coverage.*93 % to 97 %.*95\.10 %.*2000.*kept.*worst: 0\.0", text)
    assert re.search(r"energy.*at most 1 %.*-.*0.*skipped.*no counter", text)


def test_markdown_keeps_promises_and_what_stands_beside_them_apart() -> None:
    lines = list(markdown_lines([KEPT, BESIDE]))

    assert lines[2] == (
        "| `interval_coverage` | 93 % to 97 % | 95.10 % | 2,000 | kept (worst: 0.0) |"
    )
    assert lines[-1] == "| `coverage_of_stdrel` | beside it | 40.00 % | 2,000 |"
    assert len(list(markdown_lines([KEPT]))) == 3


def test_the_document_gives_every_finding_under_its_name() -> None:
    document = json.loads(json.dumps(findings_document([KEPT, SKIPPED], seed=1), allow_nan=False))

    assert document["seed"] == 1
    assert document["findings"]["interval_coverage"]["achieved"] == 0.951
    assert document["findings"]["energy"]["achieved"] is None
    assert document["findings"]["energy"]["verdict"] == "skipped"


def test_a_broken_promise_fails_the_gate_and_an_open_one_leaves_it_open() -> None:
    assert exit_code([KEPT, BESIDE, SKIPPED]) is ExitCode.DONE
    assert exit_code([KEPT, UNSURE]) is ExitCode.GATE_INCONCLUSIVE
    assert exit_code([KEPT, UNSURE, BROKEN]) is ExitCode.GATE_FAILED
    assert exit_code([SKIPPED, BESIDE]) is ExitCode.GATE_INCONCLUSIVE


def test_the_picture_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        draw_coverage([KEPT, BESIDE], tmp_path / name)

    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_there_is_no_picture_of_what_was_not_audited(tmp_path: Path) -> None:
    draw_coverage([SKIPPED], tmp_path / "none.svg")

    assert not (tmp_path / "none.svg").exists()
