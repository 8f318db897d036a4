"""Claims about how trials are spread over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from moeprof.errors import UsageError
from moeprof.hardware import catalogue
from moeprof.selfcheck.audit import audit, selected
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.finding import Finding, Promise, Verdict, of_share
from moeprof.selfcheck.workers import run_trials

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from moeprof.hardware.gpu import GPU

GPU_NAME = "h200-sxm"
PROMISE = Promise("heads", "about half", low=0.3, high=0.7)


def toss(gpu: GPU, random: np.random.Generator) -> float:
    assert gpu.name == GPU_NAME
    return float(random.random())


def judge(outcomes: Sequence[Any]) -> tuple[Finding, ...]:
    return (of_share(PROMISE, sum(each < 0.5 for each in outcomes), len(outcomes)),)


COIN = Check("coin", ("heads",), 95, toss, judge)
OTHER = Check("other", ("tails",), 7, toss, judge)


def ran(num_workers: int, seed: int = 3) -> dict[str, list[float]]:
    told: list[int] = []
    outcomes = run_trials(
        {COIN: 95, OTHER: 7},
        catalogue.gpu(GPU_NAME),
        seed=seed,
        num_workers=num_workers,
        on_progress=lambda check, done, total: told.append(done),
    )
    assert told == sorted(told)
    assert told[-1] == 102
    return {check.name: each for check, each in outcomes.items()}


def test_outcomes_depend_on_the_seed_alone() -> None:
    assert ran(1) == ran(2)
    assert ran(1) != ran(1, seed=4)


def test_every_trial_and_every_check_has_chance_of_its_own() -> None:
    outcomes = ran(1)

    assert len(outcomes["coin"]) == 95
    assert len(set(outcomes["coin"] + outcomes["other"])) == 102


def test_an_audit_runs_no_more_trials_than_it_may() -> None:
    (found,) = audit(
        [COIN],
        catalogue.gpu(GPU_NAME),
        seed=0,
        num_trials_max=20,
        num_workers=1,
        on_progress=lambda *told: None,
    )

    assert found.num_trials == 20
    assert found.verdict is Verdict.KEPT


def test_checks_are_chosen_by_their_name_or_by_a_figure() -> None:
    checks = [COIN, OTHER]

    assert selected((), checks) == (COIN, OTHER)
    assert selected(("coin",), checks) == (COIN,)
    assert selected(("tails",), checks) == (OTHER,)
    with pytest.raises(UsageError, match="no check or figure is named 'head'") as refused:
        selected(("head",), checks)
    assert "heads" in str(refused.value.hint)
