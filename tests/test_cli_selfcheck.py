"""Claims about `moeprof selfcheck` as a command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from test_cli import moeprof

from moeprof.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ("selfcheck", "--runs", "4", "--only", "throttle", "--seed", "3")


def test_an_audit_prints_one_document_that_depends_on_the_seed_alone() -> None:
    first, again = moeprof(*SMALL, "--json"), moeprof(*SMALL, "--json")

    document = json.loads(first.stdout)
    assert first.stdout == again.stdout
    assert document["findings"]["throttle_recall"]["num_trials"] > 0
    assert document["complete"] is False
    assert document["kept"] is False


def test_an_audit_prints_promised_and_achieved_and_writes_them(tmp_path: Path) -> None:
    done = moeprof(*SMALL, "--out", tmp_path / "out")

    assert "throttle_recall" in done.stdout
    assert "fewer trials than the promises need" in done.stdout
    assert "throttle_recall" in (tmp_path / "out" / "selfcheck.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "selfcheck.json").read_text())["seed"] == 3


def test_a_name_that_is_no_check_is_a_usage_error_with_the_nearest_ones() -> None:
    done = moeprof("selfcheck", "--only", "interval")

    assert done.returncode == ExitCode.USAGE
    assert "no check or figure is named 'interval'" in done.stderr
    assert "interval_coverage" in done.stderr


def test_a_recorded_trace_is_described_without_a_load(tmp_path: Path) -> None:
    trace = tmp_path / "smi.csv"
    rows = [f"{0.01 * i:.3f}, {60 + 240 * (i // 50 % 2) + i // 10 % 2} W" for i in range(600)]
    trace.write_text("\n".join(["seconds, power.draw [W]", *rows]) + "\n")

    done = moeprof("selfcheck", "--replay", trace)
    document = json.loads(moeprof("selfcheck", "--replay", trace, "--json").stdout)

    assert done.returncode == ExitCode.DONE, done.stderr
    assert "power.draw [W]: no window_seconds" in done.stdout
    assert abs(document["sensors"][0]["period_seconds"] - 0.1) < 0.005


def test_a_load_without_a_trace_and_a_trace_that_is_none_are_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")

    alone, other = moeprof("selfcheck", "--load", bad), moeprof("selfcheck", "--replay", bad)

    assert alone.returncode == ExitCode.USAGE
    assert other.returncode == ExitCode.INPUT
    assert "expected a column seconds or timestamp" in other.stderr


def test_a_schedulers_term_ends_an_audit_at_once_with_a_message() -> None:
    command = [sys.executable, "-m", "moeprof", "selfcheck", "--only", "hold"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(4)

    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=10)

    assert running.returncode == ExitCode.INTERRUPTED
    assert "interrupted: the audit has found nothing yet" in errors
    assert "Traceback" not in errors
