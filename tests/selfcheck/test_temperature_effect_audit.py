"""Claims about the audit of temperature effects: it passes the estimator, not a careless one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moeprof.analysis import temperature_effect as estimator
from moeprof.device.sim.truth import truth_of
from moeprof.hardware.catalogue import gpu
from moeprof.selfcheck import temperature_effect as audit
from moeprof.selfcheck import temperature_rows
from moeprof.selfcheck.check import random_of_trial
from moeprof.selfcheck.finding import Finding, Verdict
from moeprof.selfcheck.temperature_effect import CHECKS
from moeprof.selfcheck.temperature_rows import drawn_plan, drawn_rows

if TYPE_CHECKING:
    from moeprof.analysis.block_slope import BlockRows, BlockSlope

(CHECK,) = CHECKS


@pytest.fixture(autouse=True)
def few_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temperature_rows, "NUM_PLANS", 2)


def findings(seed: int, num_trials: int) -> dict[str, Finding]:
    card = gpu("h200-sxm")
    randoms = [random_of_trial(seed, CHECK.name, index) for index in range(num_trials)]
    return {
        found.name: found for found in CHECK.judge([CHECK.trial(card, each) for each in randoms])
    }


def test_the_estimator_keeps_its_promises_in_a_small_audit() -> None:
    found = findings(7, 40)

    assert set(found) == set(CHECK.figures)
    assert found["temperature_effect_coverage"].verdict is not Verdict.BROKEN
    assert found["temperature_cause_accuracy"].verdict is Verdict.KEPT
    assert findings(7, 3) == findings(7, 3)


def test_an_estimator_that_ignores_blocks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def each_row_a_block(rows: BlockRows) -> BlockSlope | None:
        design = rows.block_design[rows.blocks]
        return estimator_slope(replace(rows, blocks=np.arange(len(design)), block_design=design))

    estimator_slope = estimator.block_slope
    monkeypatch.setattr(estimator, "block_slope", each_row_a_block)
    monkeypatch.setattr(audit, "_DISTURBANCE_FRACTION_MAX", 0.02)

    found = findings(7, 40)["temperature_effect_coverage"]

    assert found.verdict is Verdict.BROKEN
    assert found.achieved < 0.9


def test_what_is_planted_is_in_the_rows() -> None:
    random = np.random.default_rng(1)
    truth = replace(truth_of(gpu("h200-sxm")), latency_fraction_per_celsius=1e-3)
    planted = drawn_plan(random, disturbance_fraction_max=0.0, drift_fraction_max=0.0)

    table, slopes = drawn_rows(truth, planted, random)

    rows = [row for row in table.to_pylist() if row["latency_seconds"] is not None]
    points = {(row["batch_size"], row["routing_pattern"]) for row in rows}
    assert slopes.log_latency_per_celsius == pytest.approx(1e-3, rel=0.03)
    for batch_size, pattern in points:
        ours = [r for r in rows if (r["batch_size"], r["routing_pattern"]) == (batch_size, pattern)]
        slope = np.polyfit(
            [r["die_celsius"] for r in ours], np.log([r["latency_seconds"] for r in ours]), 1
        )[0]
        assert slope == pytest.approx(1e-3, abs=6e-4)
