"""The warm-up: a declared time under load, and a test of whether it was long enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.conditioning.steady import slope

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.conditioning.settings import WarmUpSettings
    from moeprof.device.protocol import Device, Program
    from moeprof.record import DeviceState

_STEP_SECONDS = 1.0
_STEPS_MIN = 16  # a short warm-up is watched in finer steps
_CELSIUS_STEP = 1.0  # GPUs report whole degrees
_NEAR_CELSIUS = 1.0
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What a warm-up came to.

    `warm_up_seconds` is the time under load; `steady` is None where nothing could be tested;
    `steady_after_seconds` is when the temperature had come within 1 °C of its last value.
    """

    warm_up_seconds: float
    steady: bool | None
    steady_after_seconds: float | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class _Step:
    at_seconds: float
    latency_seconds: float
    die_celsius: float | None


def warm_up(
    device: Device,
    program: Program,
    settings: WarmUpSettings,
    *,
    on_progress: Callable[[float, DeviceState], None] | None = None,
) -> WarmUp:
    """Keep the device busy for the declared time, and test whether the second half was steady.

    Steady means that the drift of temperature (per minute) and of latency (over the half) are
    shown to lie within the settings' bounds. `on_progress` hears the share done and the state.

    Raises DeviceLost.
    """
    start = device.now()
    step_seconds = min(_STEP_SECONDS, settings.warm_up_seconds / _STEPS_MIN)
    steps: list[_Step] = []
    while (passed := device.now() - start) < settings.warm_up_seconds:
        program.run(min(step_seconds, settings.warm_up_seconds - passed))
        latency_seconds = program.sample()
        state = device.state()
        steps.append(_Step(device.now() - start, latency_seconds, state.die_celsius))
        if on_progress is not None:
            on_progress(min(1.0, steps[-1].at_seconds / settings.warm_up_seconds), state)
    seconds = device.now() - start
    second_half = [step for step in steps if step.at_seconds >= seconds / 2]
    complaints, num_tested = _complaints(second_half, settings)
    return WarmUp(
        warm_up_seconds=seconds,
        steady=not complaints if num_tested else None,
        steady_after_seconds=_near_the_end_after(steps),
        detail="; ".join(complaints) or None,
    )


def _complaints(steps: list[_Step], settings: WarmUpSettings) -> tuple[list[str], int]:
    """Return what was not shown to be steady, and how many quantities could be tested."""
    complaints, num_tested = [], 0
    warm = [(step.at_seconds, step.die_celsius) for step in steps if step.die_celsius is not None]
    times_seconds, readings = [at for at, _ in warm], [celsius for _, celsius in warm]
    drift = slope(times_seconds, readings, resolution=_CELSIUS_STEP)
    if drift is not None:
        num_tested += 1
        if not drift.is_within(settings.drift_celsius_per_minute_max / _MINUTE):
            complaints.append(f"temperature drifted by {drift.per_second * _MINUTE:+.2f} °C/min")
    logs = [math.log(step.latency_seconds) for step in steps]
    pace = slope([step.at_seconds for step in steps], logs)
    if pace is not None:
        num_tested += 1
        span = steps[-1].at_seconds - steps[0].at_seconds
        if not pace.is_within(settings.latency_drift_fraction_max / span):
            complaints.append(
                f"latency drifted by {pace.per_second * span:+.2%} "
                f"± {2 * pace.error_per_second * span:.2%}"
            )
    return complaints, num_tested


def _near_the_end_after(steps: list[_Step]) -> float | None:
    readings = [step for step in steps if step.die_celsius is not None]
    if not readings or readings[-1].die_celsius is None:
        return None
    last = readings[-1].die_celsius
    after = 0.0
    for step in readings:
        if step.die_celsius is not None and abs(step.die_celsius - last) > _NEAR_CELSIUS:
            after = step.at_seconds
    return after
