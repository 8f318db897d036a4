from __future__ import annotations

from dataclasses import replace

import pytest

from moeprof.hardware import catalogue
from moeprof.selfcheck import warm_up
from moeprof.selfcheck.check import random_of_trial
from moeprof.selfcheck.finding import Finding, Verdict

NUM_TRIALS = 12
GPU = catalogue.gpu("h200-sxm")


def outcomes() -> list[warm_up.WarmedPlant]:
    return [warm_up.trial(GPU, random_of_trial(1, "warm_up", index)) for index in range(NUM_TRIALS)]


def judged(plants: list[warm_up.WarmedPlant]) -> dict[str, Finding]:
    return {finding.name: finding for finding in warm_up.judge(plants)}


@pytest.fixture(scope="module")
def plants() -> list[warm_up.WarmedPlant]:
    return outcomes()


def test_no_drawn_plant_that_drifts_is_called_steady(plants: list[warm_up.WarmedPlant]) -> None:
    assert judged(plants)["warm_up_verdict"].verdict is Verdict.KEPT
    assert any(plant.drift_celsius_per_minute > 0.2 for plant in plants)


def test_the_same_chance_gives_the_same_plant(plants: list[warm_up.WarmedPlant]) -> None:
    assert warm_up.trial(GPU, random_of_trial(1, "warm_up", 0)) == plants[0]


def test_a_verdict_that_calls_everything_steady_breaks_the_promise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "moeprof.conditioning.warm_up.verdict", lambda log, settings: (True, 0.0, "surely")
    )
    findings = judged(outcomes())

    assert findings["warm_up_verdict"].verdict is Verdict.BROKEN
    assert findings["warm_up_wrongly_steady"].achieved == pytest.approx(
        1 - (findings["warm_up_verdict"].achieved or 0.0)
    )


def test_stillness_that_was_not_seen_is_told(plants: list[warm_up.WarmedPlant]) -> None:
    seen = replace(plants[0], steady=True, drift_celsius_per_minute=-0.05)
    missed = replace(seen, steady=False)
    doubtful = replace(seen, steady=False, drift_celsius_per_minute=0.15)

    assert judged([seen, seen, seen, missed, doubtful])["warm_up_missed"].achieved == 0.25


def test_cooling_is_a_drift_too(plants: list[warm_up.WarmedPlant]) -> None:
    assert replace(plants[0], steady=True, drift_celsius_per_minute=-0.3).is_wrong
