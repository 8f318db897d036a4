"""The mean power of the phases under load, from readings that show nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.measure.sensor.stream import Quantity, Unclear
from moeprof.measure.ticks import TickWatch, power_between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.measure.sensor.stream import Phase, SensorStream
    from moeprof.measure.sensor.updates import Updates


def load_watts(
    stream: SensorStream,
    updates: Updates,
    phases: Sequence[Phase],
    *,
    window_seconds: float,
    lag_seconds: float,
) -> float | Unclear:
    """Return the mean power under load; of a counter by the ticks that a live window is cut by."""
    if stream.quantity is Quantity.POWER:
        return _by_readings(updates, phases, window_seconds, lag_seconds)
    watch = TickWatch()
    for phase in phases:
        watch.begin(phase.start_seconds)
        inside = slice(
            *np.searchsorted(stream.at_seconds, [phase.start_seconds, phase.end_seconds])
        )
        pairs = zip(stream.at_seconds[inside], stream.values[inside], strict=True)
        for at_seconds, joules in pairs:
            watch.note(float(at_seconds), float(joules))
    power = power_between(watch.after(lag_seconds))
    if power is None:
        return Unclear("no phase under load holds two ticks of the counter")
    return power.joules / power.seconds


def launch_joules(watts: float, phases: Sequence[Phase]) -> float | Unclear:
    """Return the joules of a launch under a mean power."""
    counted = [(p.num_launches, p.end_seconds - p.start_seconds) for p in phases]
    num_launches = sum(count or 0 for count, _ in counted)
    if any(count is None for count, _ in counted) or num_launches == 0:
        return Unclear("the launches of each phase are not known")
    return watts * sum(seconds for _, seconds in counted) / num_launches


def _by_readings(
    updates: Updates, phases: Sequence[Phase], window_seconds: float, lag_seconds: float
) -> float | Unclear:
    ends = updates.at_seconds - lag_seconds
    inside = np.zeros(len(ends), dtype=bool)
    for phase in phases:
        inside |= (ends - window_seconds >= phase.start_seconds) & (ends <= phase.end_seconds)
    if not inside.any():
        return Unclear("no reading's window lies within a phase under load")
    return float(updates.values[inside].mean())
