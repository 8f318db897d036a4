"""Claims about the audit of drift: it passes the correction, and fails a sweep without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moeprof.hardware.catalogue import gpu
from moeprof.selfcheck import drift
from moeprof.selfcheck.check import random_of_trial
from moeprof.selfcheck.drifting import DRIFT_FRACTION, Drift
from moeprof.selfcheck.finding import Finding, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

(CHECK,) = drift.CHECKS


def findings(num_trials: int) -> dict[str, Finding]:
    card = gpu("h200-sxm")
    outcomes = [
        CHECK.trial(card, random_of_trial(3, CHECK.name, index)) for index in range(num_trials)
    ]
    return {found.name: found for found in CHECK.judge(outcomes)}


@pytest.fixture
def straight_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "_SHAPE_CHANCES", (1.0, 0.0, 0.0))


@pytest.mark.usefixtures("straight_only")
def test_drift_is_kept_out_of_batch_sizes_and_a_naive_order_lets_it_in() -> None:
    found = findings(3)

    assert set(found) == set(CHECK.figures)
    assert found["drift_bias"].achieved < 0.004
    assert found["drift_bias_naive_order"].achieved > 0.03
    assert found["drift_interval_coverage"].verdict is not Verdict.BROKEN


@pytest.mark.usefixtures("straight_only")
def test_latencies_that_are_not_corrected_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def uncorrected(table: pa.Table) -> pa.Table:
        for suffix in ("", "_ci_low", "_ci_high"):
            name = f"latency_seconds_drift_corrected{suffix}"
            table = table.append_column(name, table[f"latency_seconds{suffix}"])
        return table

    monkeypatch.setattr(drift, "drift_corrected", uncorrected)

    found = findings(3)

    assert found["drift_bias"].verdict is Verdict.BROKEN
    assert found["drift_interval_coverage"].verdict is Verdict.BROKEN


@pytest.mark.parametrize("shape", ["straight", "curved", "stepped"])
def test_every_drift_begins_at_nothing_and_ends_at_the_same(shape: str) -> None:
    planted = Drift(shape, 100.0, 0.5)

    assert planted.factor(0.0) == 1.0
    assert planted.factor(100.0) == pytest.approx(1 + DRIFT_FRACTION)
