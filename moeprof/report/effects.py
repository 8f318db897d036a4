"""What temperature does to latency and power, in sentences."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from moeprof.analysis.thermal_cause import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moeprof.analysis.temperature_effect import TemperatureEffect
    from moeprof.record import Interval

_THROUGH: Final = {
    Cause.CLOCK: "through a clock that changes with temperature",
    Cause.POWER_LIMIT: "because the power limit is reached",
    Cause.LEAKAGE: "at an unchanged clock: leakage",
    Cause.OTHER: "at an unchanged clock",
}


def effect_lines(effects: Sequence[TemperatureEffect]) -> Iterator[str]:
    """Yield, for every kernel, one line on latency and one on power."""
    for each in effects:
        group = each.group
        yield (
            f"temperature, {group.kernel} on {group.model} ({group.weight_dtype}, L2 "
            f"{group.l2_state}), {group.num_rows} rows in {group.num_blocks} blocks:"
        )
        if each.absent_reason is not None:
            yield f"  no effect can be told: {each.absent_reason}"
            continue
        if not each.drift_told_apart:
            yield "  too few blocks to tell temperature from drift: order.num_blocks = 12 would do"
        yield f"  latency {_latency(each)}"
        yield f"  power {_watts(each)}"


def effect_documents(effects: Sequence[TemperatureEffect]) -> list[dict[str, Any]]:
    """Return every effect as plain values, for `--json`."""
    return [
        {
            **asdict(each),
            "smallest_excluded_fraction_per_celsius": each.smallest_excluded_fraction_per_celsius,
        }
        for each in effects
    ]


def _latency(effect: TemperatureEffect) -> str:
    found = effect.latency_fraction_per_celsius
    assert found is not None
    words = f"{_interval(found, 100, '%/°C')} over {effect.span_celsius:.0f} °C"
    excluded = effect.smallest_excluded_fraction_per_celsius
    if excluded is not None:
        return f"{words}: no effect larger than {100 * excluded:.2g} %/°C"
    return words + _cause(None if effect.cause is None else effect.cause.latency)


def _watts(effect: TemperatureEffect) -> str:
    found = effect.watts_per_celsius
    if found is None:
        return f"is not known: {effect.watts_absent_reason}"
    return _interval(found, 1, "W/°C") + _cause(
        None if effect.cause is None else effect.cause.watts
    )


def _interval(found: Interval, scale: float, unit: str) -> str:
    estimate, low, high = (scale * value for value in (found.estimate, found.low, found.high))
    return f"{estimate:+.3g} {unit} ({low:+.3g} to {high:+.3g})"


def _cause(cause: Cause | None) -> str:
    return f", {_THROUGH[cause]}" if cause in _THROUGH else ""
