"""The audit as a whole: which checks there are, and what they found on simulated GPUs."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Protocol, TypeVar

from moeprof.errors import UsageError
from moeprof.selfcheck import (
    against_peers,
    drift,
    energy,
    equal_pairs,
    hold,
    sensor,
    stopping,
    temperature_effect,
    throttle,
    warm_up,
)
from moeprof.selfcheck.workers import run_trials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.hardware.gpu import GPU
    from moeprof.selfcheck.check import Check
    from moeprof.selfcheck.finding import Finding
    from moeprof.selfcheck.workers import AuditProgress

CHECKS: tuple[Check, ...] = (
    *stopping.CHECKS,
    *against_peers.CHECKS,
    *equal_pairs.CHECKS,
    *energy.CHECKS,
    *sensor.CHECKS,
    *hold.CHECKS,
    *throttle.CHECKS,
    *drift.CHECKS,
    *temperature_effect.CHECKS,
    *warm_up.CHECKS,
)


class Named(Protocol):
    """Whatever gives figures."""

    @property
    def name(self) -> str:
        """Its own name."""

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures that it gives."""


Chosen = TypeVar("Chosen", bound=Named)


def selected(only: Sequence[str], checks: Sequence[Chosen]) -> tuple[Chosen, ...]:
    """Return those that have one of the names, or that give a figure of that name.

    No name selects all. Raises UsageError for a name that is neither.
    """
    known = {name for check in checks for name in (check.name, *check.figures)}
    for name in only:
        if name not in known:
            nearest = difflib.get_close_matches(name, known) or [check.name for check in checks]
            raise UsageError(
                f"--only: no check or figure is named {name!r}",
                hint=f"Choose {', '.join(nearest)}.",
            )
    return tuple(check for check in checks if not only or {check.name, *check.figures} & set(only))


def audit(
    checks: Sequence[Check],
    gpu: GPU,
    *,
    seed: int,
    num_trials_max: int | None,
    num_workers: int,
    on_progress: AuditProgress,
) -> tuple[Finding, ...]:
    """Run the checks on drawn GPUs of this kind; the findings depend on the seed alone.

    `num_trials_max` bounds the trials of every check; None: each has as many as its figure needs.
    """
    sizes = {
        check: check.num_trials if num_trials_max is None else min(check.num_trials, num_trials_max)
        for check in checks
    }
    outcomes = run_trials(sizes, gpu, seed=seed, num_workers=num_workers, on_progress=on_progress)
    return tuple(finding for check in checks for finding in check.judge(outcomes[check]))
