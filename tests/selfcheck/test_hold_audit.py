from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from moeprof.conditioning.hold import Hold, Kept
from moeprof.hardware import catalogue
from moeprof.selfcheck import hold
from moeprof.selfcheck.check import random_of_trial
from moeprof.selfcheck.finding import Finding, Verdict

if TYPE_CHECKING:
    from moeprof.record import DeviceState

NUM_TRIALS = 4
GPU = catalogue.gpu("h200-sxm")


def outcomes() -> list[hold.HeldPlant]:
    return [hold.trial(GPU, random_of_trial(1, "hold", index)) for index in range(NUM_TRIALS)]


def judged(plants: list[hold.HeldPlant]) -> dict[str, Finding]:
    return {finding.name: finding for finding in hold.judge(plants)}


@pytest.fixture(scope="module")
def plants() -> list[hold.HeldPlant]:
    return outcomes()


def test_drawn_plants_are_held_as_promised(plants: list[hold.HeldPlant]) -> None:
    findings = judged(plants)

    assert any(plant.reachable for plant in plants)
    assert findings["hold_error_celsius"].verdict is Verdict.KEPT
    assert findings["hold_drift_celsius_per_minute"].verdict is Verdict.KEPT
    assert findings["hold_reached"].verdict is Verdict.KEPT


def test_the_same_chance_gives_the_same_plant(plants: list[hold.HeldPlant]) -> None:
    assert hold.trial(GPU, random_of_trial(1, "hold", 0)) == plants[0]


def test_a_wide_dead_band_breaks_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(self: Hold, state: DeviceState | None = None) -> Kept:
        goal_celsius = self.settings.hold_celsius or 0.0
        celsius = self.device.state().die_celsius or 0.0
        if celsius > goal_celsius + 1:
            while celsius >= goal_celsius - 1:
                self.device.sleep(0.1)
                celsius = self.device.state().die_celsius or celsius
        return Kept(moved=True)

    monkeypatch.setattr(Hold, "keep", keep)

    assert judged(outcomes())["hold_error_celsius"].verdict is Verdict.BROKEN


def test_a_set_point_that_could_be_reached_and_was_not_counts(
    plants: list[hold.HeldPlant],
) -> None:
    refused = replace(
        plants[0],
        reachable=True,
        reached=False,
        error_celsius=None,
        drift_celsius_per_minute=None,
    )
    findings = judged([refused] * 10)

    assert findings["hold_reached"].verdict is Verdict.BROKEN
    assert findings["hold_error_celsius"].verdict is Verdict.INCONCLUSIVE


def test_a_set_point_out_of_reach_does_not_count(plants: list[hold.HeldPlant]) -> None:
    refused = replace(plants[0], reachable=False, reached=False, error_celsius=None)
    reached = replace(plants[0], reachable=True, reached=True)

    assert judged([reached, refused])["hold_reached"].achieved == 1.0


def test_a_slow_rise_is_a_drift_either_way(plants: list[hold.HeldPlant]) -> None:
    falling = replace(plants[0], reached=True, drift_celsius_per_minute=-0.3)

    assert judged([falling])["hold_drift_celsius_per_minute"].verdict is Verdict.BROKEN
