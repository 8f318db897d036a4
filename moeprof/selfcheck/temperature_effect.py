"""Whether the effect of temperature is found, with intervals that hold it, and its cause named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Final

from moeprof.analysis.temperature_effect import temperature_effects
from moeprof.analysis.thermal_cause import Cause
from moeprof.device.sim.truth import truth_of
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.draw import between, with_drawn_heat
from moeprof.selfcheck.finding import Finding, Promise, of_share, told, worst_of
from moeprof.selfcheck.temperature_rows import (
    COMPUTE,
    DECODE,
    Slopes,
    coldest_watts,
    drawn_plan,
    drawn_rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from moeprof.hardware.gpu import GPU
    from moeprof.record import Interval

_KINDS: Final = ("clock held", "thermal slowdown", "power limit")
_KIND_CHANCES: Final = (0.8, 0.1, 0.1)
_EFFECT_FRACTION_PER_CELSIUS: Final = (-1e-3, 1e-3)  # in half of the trials; else none
_DISTURBANCE_FRACTION_MAX: Final = 0.005
_DRIFT_FRACTION_MAX: Final = 0.04
_SLOWDOWN_FRACTION_PER_CELSIUS: Final = (0.002, 0.01)
_LIMIT_FRACTION: Final = (0.75, 0.95)  # of what the least point would draw at the coldest
# An effect at least so large, in a sweep disturbed at most so much, has a cause to be named.
_CLEAR_FRACTION_PER_CELSIUS: Final = 3e-4
_CLEAR_DISTURBANCE_FRACTION: Final = 0.001
_CLEAR_WATTS_PER_CELSIUS: Final = 0.5
_NO_EFFECT_PER_CELSIUS: Final = 1e-12  # rounding

_COVERAGE = Promise(
    "temperature_effect_coverage",
    "95 % intervals of dt/dT and of dP/dT hold the truth (the worse of the two)",
    low=0.93,
    high=0.97,
)
_CAUSE = Promise(
    "temperature_cause_accuracy",
    "what a change with temperature came through is named, where it is clear or there is none",
    low=0.95,
)
_WIDTH: Final = "temperature_effect_half_width_fraction_per_celsius"


@dataclass(frozen=True, slots=True)
class Trial:
    """What was planted in one sweep, and what was found; None: not to be judged."""

    latency_covered: bool | None
    watts_covered: bool | None
    half_width_fraction_per_celsius: float | None
    causes: dict[str, bool]  # by the cause expected: whether it was named


def trial(gpu: GPU, random: np.random.Generator) -> Trial:
    """Plant effects of temperature in one sweep, and look for them."""
    kind = str(random.choice(_KINDS, p=_KIND_CHANCES))
    held = kind == "clock held"
    planted = drawn_plan(
        random,
        disturbance_fraction_max=_DISTURBANCE_FRACTION_MAX if held else _CLEAR_DISTURBANCE_FRACTION,
        drift_fraction_max=_DRIFT_FRACTION_MAX,
    )
    truth = with_drawn_heat(truth_of(gpu), random)
    batch_sizes = DECODE if held else COMPUTE
    # A card whose limit no point comes near, unless the limit is what is planted.
    truth = replace(truth, power_limit_watts=10 * truth.power_limit_watts)
    if held and random.random() < 0.5:  # noqa: PLR2004 - half of the trials
        effect = between(random, _EFFECT_FRACTION_PER_CELSIUS)
        truth = replace(truth, latency_fraction_per_celsius=effect)
    elif kind == "thermal slowdown":
        slowdown = between(random, _SLOWDOWN_FRACTION_PER_CELSIUS)
        planted = replace(planted, slowdown_fraction_per_celsius=slowdown)
    elif kind == "power limit":
        least_watts = coldest_watts(truth, planted.hold_celsius[0], batch_sizes)
        limit_watts = between(random, _LIMIT_FRACTION) * least_watts
        truth = replace(truth, power_limit_watts=limit_watts)
    table, slopes = drawn_rows(truth, planted, random, batch_sizes)
    (found,) = temperature_effects(table)
    assert found.cause is not None, f"twelve blocks are enough: {found.absent_reason}"
    expected = _expected(kind, slopes, planted.disturbance_fraction)
    named = {"latency": found.cause.latency, "watts": found.cause.watts}
    interval = found.latency_fraction_per_celsius
    return Trial(
        _holds(interval, slopes.log_latency_per_celsius) if held else None,
        _holds(found.watts_per_celsius, slopes.watts_per_celsius) if held else None,
        None if interval is None else (interval.high - interval.low) / 2,
        {f"{what}: {cause.value}": named[what] is cause for what, cause in expected.items()},
    )


def judge(outcomes: Sequence[Trial]) -> tuple[Finding, ...]:
    """Return the findings of all sweeps."""
    covered = {
        "dt/dT": [each.latency_covered for each in outcomes if each.latency_covered is not None],
        "dP/dT": [each.watts_covered for each in outcomes if each.watts_covered is not None],
    }
    names = sorted({name for each in outcomes for name in each.causes})
    by_cause = {
        name: [each.causes[name] for each in outcomes if name in each.causes] for name in names
    }
    named = [hit for hits in by_cause.values() for hit in hits]
    widths = [
        each.half_width_fraction_per_celsius
        for each in outcomes
        if each.half_width_fraction_per_celsius is not None
    ]
    return (
        worst_of(
            _COVERAGE,
            {name: of_share(_COVERAGE, sum(hits), len(hits)) for name, hits in covered.items()},
        ),
        replace(
            of_share(_CAUSE, sum(named), len(named)),
            by={
                name: {"achieved": sum(hits) / len(hits), "num_trials": len(hits)}
                for name, hits in by_cause.items()
            },
        ),
        told(
            _WIDTH,
            "half the interval of dt/dT (median over sweeps)",
            median(widths) if widths else None,
            len(widths),
        ),
    )


CHECKS: Final = (
    Check("temperature_effect", (_COVERAGE.name, _CAUSE.name, _WIDTH), 1500, trial, judge),
)


def _holds(interval: Interval | None, true_slope: float) -> bool:
    """Return whether the interval holds the truth; none at all does not."""
    return interval is not None and interval.low <= true_slope <= interval.high


def _expected(kind: str, slopes: Slopes, disturbance_fraction: float) -> dict[str, Cause]:
    """Return the causes that have to be named; a small effect may be seen or not."""
    expected = {}
    quiet = disturbance_fraction <= _CLEAR_DISTURBANCE_FRACTION
    latency_cause = {
        "clock held": Cause.OTHER,
        "thermal slowdown": Cause.CLOCK,
        "power limit": Cause.POWER_LIMIT,
    }[kind]
    if abs(slopes.log_latency_per_celsius) < _NO_EFFECT_PER_CELSIUS:
        expected["latency"] = Cause.NONE_SEEN
    elif quiet and abs(slopes.log_latency_per_celsius) >= _CLEAR_FRACTION_PER_CELSIUS:
        expected["latency"] = latency_cause
    if kind == "clock held" and quiet and slopes.watts_per_celsius >= _CLEAR_WATTS_PER_CELSIUS:
        expected["watts"] = Cause.LEAKAGE
    return expected
