"""Claims about the audits of energy and of sensors."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moeprof.hardware import catalogue
from moeprof.measure.background import Background
from moeprof.selfcheck import energy, sensor
from moeprof.selfcheck.energy import EnergyTrial
from moeprof.selfcheck.finding import Verdict
from moeprof.selfcheck.sensor import SensorTrial

if TYPE_CHECKING:
    from moeprof.measure.static_power import StaticPower

GPU = catalogue.gpu("h200-sxm")
GOOD = EnergyTrial(
    held=False,
    reset=False,
    refusal=None,
    error_fraction=0.002,
    covered=True,
    half_width_fraction=0.005,
    dynamic_error_fraction=0.004,
    dynamic_covered=True,
    leakage_error_fraction=0.001,
    static_error_fraction=0.001,
    static_covered=True,
)
GOOD_SENSOR = SensorTrial(
    is_slow=False,
    slow_window_error_fraction=None,
    period_error_fraction=0.001,
    window_error_seconds=0.0001,
    lag_error_seconds=0.0001,
    lags_covered=True,
    characterising_seconds=7.0,
    energy_error_fraction=0.002,
)
SLOW_SENSOR = replace(
    GOOD_SENSOR,
    is_slow=True,
    slow_window_error_fraction=0.01,
    period_error_fraction=None,
    window_error_seconds=None,
    lag_error_seconds=None,
)


@pytest.mark.parametrize("module", [energy, sensor])
def test_a_trial_is_the_same_for_the_same_seed_and_can_be_sent(module: object) -> None:
    (check,) = module.CHECKS  # type: ignore[attr-defined]
    first, second = (check.trial(GPU, np.random.default_rng(11)) for _ in range(2))

    assert first == second == pickle.loads(pickle.dumps(first))  # noqa: S301 - our own
    assert pickle.dumps(check)


def test_a_few_cards_keep_every_promise() -> None:
    trials = [energy.trial(GPU, np.random.default_rng(seed)) for seed in range(8)]
    findings = {finding.name: finding for finding in energy.judge(trials)}

    assert findings["energy_error_p95"].verdict is Verdict.KEPT
    assert findings["energy_parts_error_p95"].verdict is Verdict.KEPT
    assert tuple(findings) == energy.CHECKS[0].figures


def test_figures_are_named_and_good_trials_keep_them() -> None:
    findings = sensor.judge([GOOD_SENSOR] * 50 + [SLOW_SENSOR] * 10)

    assert tuple(finding.name for finding in findings) == sensor.CHECKS[0].figures
    assert {finding.verdict for finding in findings} == {Verdict.KEPT, Verdict.TOLD}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("energy_error_p95", {"error_fraction": 0.02}),
        ("energy_interval_coverage", {"covered": False}),
        ("energy_parts_error_p95", {"dynamic_error_fraction": 0.05}),
        ("energy_parts_coverage", {"dynamic_covered": False}),
        ("static_power_error_p95", {"static_error_fraction": 0.05}),
    ],
)
def test_a_fault_breaks_its_own_promise(name: str, fault: dict[str, object]) -> None:
    trials = [GOOD] * 70 + [replace(GOOD, **fault)] * 30  # type: ignore[arg-type]
    verdicts = {finding.name: finding.verdict for finding in energy.judge(trials)}

    assert verdicts.pop(name) is Verdict.BROKEN
    assert set(verdicts.values()) == {Verdict.KEPT, Verdict.TOLD}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("sensor_period_error", {"period_error_fraction": 0.05}),
        ("sensor_window_error_seconds", {"window_error_seconds": 0.02}),
        ("sensor_lag_error_seconds", {"lag_error_seconds": math.inf}),
        ("sensor_interval_coverage", {"lags_covered": False}),
        ("energy_error_known_sensors_p95", {"energy_error_fraction": 0.02}),
    ],
)
def test_a_fault_of_a_sensor_breaks_its_own_promise(name: str, fault: dict[str, object]) -> None:
    faulty = replace(GOOD_SENSOR, **fault)  # type: ignore[arg-type]
    trials = [GOOD_SENSOR] * 70 + [faulty] * 30 + [SLOW_SENSOR] * 10
    verdicts = {finding.name: finding.verdict for finding in sensor.judge(trials)}

    assert verdicts.pop(name) is Verdict.BROKEN
    assert set(verdicts.values()) == {Verdict.KEPT, Verdict.TOLD}


@pytest.mark.parametrize(
    ("name", "silence"),
    [
        ("energy_refused", {"refusal": "too few ticks", "error_fraction": None}),
        ("energy_parts_refused", {"parts_refusal": "unknown", "dynamic_error_fraction": None}),
    ],
)
def test_a_method_that_hardly_ever_answers_breaks_its_promise(
    name: str, silence: dict[str, object]
) -> None:
    trials = [GOOD] + [replace(GOOD, **silence)] * 499  # type: ignore[arg-type]
    verdicts = {finding.name: finding.verdict for finding in energy.judge(trials)}

    assert verdicts[name] is Verdict.BROKEN


def test_refusals_do_not_count_as_errors() -> None:
    refused = EnergyTrial(held=False, reset=True, refusal="too few ticks")
    findings = {finding.name: finding for finding in energy.judge([GOOD] * 9 + [refused])}

    assert findings["energy_refused"].achieved == pytest.approx(0.1)
    assert findings["energy_refused"].verdict is Verdict.KEPT
    assert findings["energy_error_p95"].num_trials == 9
    assert findings["energy_error_p95"].verdict is Verdict.KEPT


def test_static_power_is_carried_to_the_temperature_of_the_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    carried_celsius: list[float] = []
    honest = Background.static_at

    def static_at(self: Background, die_celsius: float | None) -> StaticPower | None:
        if self.static is not None and self.static.die_celsius and die_celsius:
            carried_celsius.append(abs(die_celsius - self.static.die_celsius))
        return honest(self, die_celsius)

    monkeypatch.setattr(Background, "static_at", static_at)
    monkeypatch.setattr(energy, "_MOVED_SHARE", 1.0)
    for seed in range(8):
        energy.trial(GPU, np.random.default_rng(seed))

    assert max(carried_celsius) > 0.5
