"""Holding a temperature by load and pauses alone, never by clocks, fans or power limits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from moeprof.conditioning.steady import slope
from moeprof.errors import ConditioningError

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.conditioning.settings import HoldSettings
    from moeprof.device.protocol import Device, Program
    from moeprof.record import DeviceState

SLICE_SECONDS = 0.02  # short against a die's time constant (about a second), long against a launch
KEEP_SECONDS_MAX = 2.0
_STALL_FACTOR = 2.0  # a plant that has not moved for twice the settling time will not move
_STALL_CELSIUS = 1.0
_NUM_BLIND_MAX = 50  # failed readings in a row before a sensor counts as gone
_MINUTE = 60.0
_TREND_SECONDS_MIN = 10.0


@dataclass(frozen=True, slots=True)
class HoldReport:
    """How a hold came out; `die_celsius` is the mean reading of the last stretch."""

    reached: bool
    die_celsius: float | None
    drift_celsius_per_minute: float | None
    hold_seconds: float
    load_fraction: float
    detail: str | None


@dataclass(frozen=True, slots=True)
class _Reading:
    at_seconds: float
    die_celsius: float
    heated: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What `Hold.keep` did: whether it loaded or idled the device, and why it could not go on."""

    moved: bool
    problem: str | None


class Hold:
    """A set point, the load that keeps it, and how it was reached."""

    def __init__(
        self, device: Device, program: Program, settings: HoldSettings, report: HoldReport
    ) -> None:
        self._device = device
        self._program = program
        self.settings = settings
        self.report = report

    def keep(self, state: DeviceState) -> Kept:
        """Bring the temperature back to the set point, for two seconds at most.

        Called between chunks of samples with the last reading, so that measuring, which heats as
        the load does, does not run away. Raises DeviceLost.
        """
        device, target = self._device, self.settings.hold_celsius
        deadline = device.now() + KEEP_SECONDS_MAX
        moved, num_blind = False, 0
        while device.now() < deadline:
            if state.die_celsius is None:
                num_blind += 1
                if num_blind >= _NUM_BLIND_MAX:
                    reason = state.absent.get("die_celsius", "no reason given")
                    return Kept(moved, f"the die temperature is gone: {reason}")
                device.sleep(SLICE_SECONDS)
            elif round(state.die_celsius - target) == 0:
                break
            elif state.die_celsius > target:
                device.sleep(SLICE_SECONDS)
            else:
                self._program.run(SLICE_SECONDS)
            moved = True
            state = device.state()
        return Kept(moved, None)


def reach_temperature(
    device: Device,
    program: Program,
    settings: HoldSettings,
    *,
    on_progress: Callable[[float, DeviceState], None] | None = None,
) -> Hold:
    """Bring the device to the set point and watch it settle there, or say how near it came.

    Load runs in slices of 20 ms while the die is below the set point, pauses while it is above,
    and alternates with pauses while it reads the set point itself; nothing is carried over from
    one call to the next. It is reached when every reading of the last `settle_seconds` lies within
    the tolerance and they have no trend; it is given up when the temperature has stopped moving
    towards it, or after `seconds_max`.

    Raises ConditioningError where the device has no die temperature at all, DeviceLost.
    """
    start = device.now()
    readings: list[_Reading] = []
    num_blind = 0
    while True:
        state = device.state()
        passed = device.now() - start
        if state.die_celsius is None:
            num_blind += 1
            if num_blind >= _NUM_BLIND_MAX:
                reason = state.absent.get("die_celsius", "no reason given")
                if not readings:
                    raise ConditioningError(
                        f"no temperature can be held: the die temperature is absent: {reason}",
                        hint="Remove conditioning.hold_celsius from the recipe.",
                    )
                return _hold(device, program, settings, readings, passed, f"sensor lost: {reason}")
            device.sleep(SLICE_SECONDS)
            continue
        num_blind = 0
        heated = _wants_heat(state.die_celsius, settings.hold_celsius, readings)
        readings.append(_Reading(passed, state.die_celsius, heated))
        if on_progress is not None:
            on_progress(min(1.0, passed / settings.seconds_max), state)
        if _has_settled(readings, settings):
            return _hold(device, program, settings, readings, passed, None)
        if _has_stalled(readings, settings):
            return _hold(device, program, settings, readings, passed, "no nearer by load alone")
        if passed >= settings.seconds_max:
            return _hold(device, program, settings, readings, passed, "out of time")
        if heated:
            program.run(SLICE_SECONDS)
        else:
            device.sleep(SLICE_SECONDS)


def _wants_heat(celsius: float, target: float, readings: list[_Reading]) -> bool:
    if round(celsius - target) == 0:
        return not (readings and readings[-1].heated)
    return celsius < target


def _last(readings: list[_Reading], seconds: float) -> list[_Reading] | None:
    """Return the readings of the last `seconds`; None if there are not that many yet."""
    since = readings[-1].at_seconds - seconds
    if readings[0].at_seconds > since:
        return None
    first = len(readings)
    while first and readings[first - 1].at_seconds >= since:
        first -= 1
    return readings[first:]


def _has_settled(readings: list[_Reading], settings: HoldSettings) -> bool:
    # The cheap test first: it fails at every slice until the end.
    if abs(readings[-1].die_celsius - settings.hold_celsius) > settings.tolerance_celsius:
        return False
    stretch = _last(readings, settings.settle_seconds)
    if stretch is None or any(
        abs(each.die_celsius - settings.hold_celsius) > settings.tolerance_celsius
        for each in stretch
    ):
        return False
    drift = _drift_celsius_per_minute(stretch)
    return drift is None or abs(drift) <= settings.drift_celsius_per_minute_max


def _has_stalled(readings: list[_Reading], settings: HoldSettings) -> bool:
    stretch = _last(readings, _STALL_FACTOR * settings.settle_seconds)
    if stretch is None:
        return False
    first, last = stretch[0], stretch[-1]
    # Only one-sided effort is a stall: a plant that is being regulated goes both ways.
    if any(each.heated is not last.heated for each in stretch):
        return False
    return abs(last.die_celsius - first.die_celsius) < _STALL_CELSIUS


def _drift_celsius_per_minute(stretch: list[_Reading]) -> float | None:
    if stretch[-1].at_seconds - stretch[0].at_seconds < _TREND_SECONDS_MIN:
        return None
    drift = slope([each.at_seconds for each in stretch], [each.die_celsius for each in stretch])
    return None if drift is None else drift.per_second * _MINUTE


def _hold(
    device: Device,
    program: Program,
    settings: HoldSettings,
    readings: list[_Reading],
    passed: float,
    why_not: str | None,
) -> Hold:
    stretch = _last(readings, settings.settle_seconds) or readings
    celsius = sum(each.die_celsius for each in stretch) / len(stretch)
    heated = sum(
        after.at_seconds - each.at_seconds for each, after in pairwise(stretch) if each.heated
    )
    span = stretch[-1].at_seconds - stretch[0].at_seconds
    detail = None
    if why_not is not None:
        detail = f"asked for {settings.hold_celsius:g} °C, came to {celsius:.1f} °C ({why_not})"
    report = HoldReport(
        reached=why_not is None,
        die_celsius=celsius,
        drift_celsius_per_minute=_drift_celsius_per_minute(stretch),
        hold_seconds=passed,
        load_fraction=heated / span if span > 0 else 0.0,
        detail=detail,
    )
    return Hold(device, program, settings, report)
