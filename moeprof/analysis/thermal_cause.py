"""What an effect of temperature came through: the clock, the power limit, leakage, or no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from moeprof.analysis.block_slope import BlockSlope

# Stricter than the intervals' 5 %: a cause is named where there is an effect to explain.
_SEEN_P_VALUE: Final = 0.01
_LEAST_CLOCK_CHANGE_FRACTION: Final = 5e-4  # over the temperatures held; far below one clock step
_CLOCK_SHARE_LEAST: Final = 0.5
_AT_LIMIT_LEAST: Final = 0.5


class Cause(StrEnum):
    """What a change with temperature came through; `none_seen` where there was none to explain."""

    CLOCK = "clock"  # the SM clock changes with temperature, and not for the power limit
    POWER_LIMIT = "power_limit"  # the SM clock changes, because the power limit is reached
    LEAKAGE = "leakage"  # power rises with no change of the clock
    OTHER = "other"  # a change with no change of the clock, and not one that leakage makes
    NONE_SEEN = "none_seen"


@dataclass(frozen=True, slots=True)
class ThermalCause:
    """The causes of latency's and of power's change (None: power not known), and the figures.

    `clock_share_fraction` is how much of latency's change a latency as inverse as can be to the
    clock would explain, 0..1; None: latency does not change. `at_power_limit_fraction` is the share
    of rows whose clock the power limit held down, or whose power was at the limit.
    """

    latency: Cause
    watts: Cause | None
    clock_share_fraction: float | None
    at_power_limit_fraction: float


def thermal_cause(
    latency: BlockSlope,
    watts: BlockSlope | None,
    clock: BlockSlope | None,
    *,
    span_celsius: float,
    at_power_limit_fraction: float,
) -> ThermalCause:
    """Tell the causes apart; `latency` and `clock` are slopes of logarithms."""
    clock_slope = 0.0 if clock is None else clock.interval.estimate
    clock_seen = (
        clock is not None
        and abs(clock_slope) * span_celsius >= _LEAST_CLOCK_CHANGE_FRACTION
        and _is_seen(clock)
    )
    through_clock = Cause.CLOCK
    if at_power_limit_fraction >= _AT_LIMIT_LEAST:
        through_clock = Cause.POWER_LIMIT
    share_fraction = None
    latency_cause = Cause.NONE_SEEN
    if _is_seen(latency):
        share_fraction = min(1.0, max(0.0, -clock_slope / latency.interval.estimate))
        by_clock = clock_seen and share_fraction >= _CLOCK_SHARE_LEAST
        latency_cause = through_clock if by_clock else Cause.OTHER
    watts_cause = None
    if watts is not None:
        watts_cause = Cause.NONE_SEEN
        if _is_seen(watts):
            leaking = Cause.LEAKAGE if watts.interval.estimate > 0 else Cause.OTHER
            watts_cause = through_clock if clock_seen else leaking
    return ThermalCause(latency_cause, watts_cause, share_fraction, at_power_limit_fraction)


def _is_seen(slope: BlockSlope) -> bool:
    return slope.p_value_fraction < _SEEN_P_VALUE
