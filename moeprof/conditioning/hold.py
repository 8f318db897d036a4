"""A die temperature reached and kept by load that is switched on and off, and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.conditioning.approach import Approach, describe
from moeprof.conditioning.thermometer import no_reading, read_die
from moeprof.errors import ConditioningError

if TYPE_CHECKING:
    from moeprof.conditioning.settings import HoldSettings
    from moeprof.conditioning.warm_up import ConditioningProgress
    from moeprof.device.protocol import Device, Program
    from moeprof.record import DeviceState

# A die with a time constant of seconds moves by up to 7 C/s, so the switch has to be fast.
SLICE_SECONDS = 0.025
FAR_SLICE_SECONDS = 0.25
FAR_CELSIUS = 5.0
KEEP_SECONDS_MAX = 5.0
PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HoldReport:
    """How near a hold came to its temperature, over its last `settle_seconds`.

    `error_celsius` is the mean reading less the set point; `duty_fraction` the share of that time
    spent under load; `detail` says why where `reached` is False. None: no reading.
    """

    reached: bool
    celsius: float | None
    error_celsius: float | None
    drift_celsius_per_minute: float | None
    seconds: float
    duty_fraction: float | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What keeping a temperature took: whether the device idled or heated, and any trouble."""

    moved: bool
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A temperature to keep; everything it decides comes from the device's readings."""

    device: Device
    program: Program
    settings: HoldSettings
    report: HoldReport

    def keep(self, state: DeviceState | None = None) -> Kept:
        """Idle while too hot, heat while too cold, for 5 s of device time at most.

        `state` is a reading just made, if there is one. Called between chunks of samples, which
        themselves heat: so it idles from the set point on, and heats only below the tolerance.
        Raises DeviceLost.
        """
        goal_celsius = _goal(self.settings)
        floor_celsius = goal_celsius - self.settings.tolerance_celsius
        start_seconds = self.device.now()
        reading = read_die(self.device, state)
        moved = False
        heating = reading.die_celsius is not None and reading.die_celsius < floor_celsius
        while self.device.now() - start_seconds < KEEP_SECONDS_MAX:
            if reading.die_celsius is None:
                return Kept(moved, f"the die temperature was lost: {no_reading(reading)}")
            is_at_goal = reading.die_celsius >= goal_celsius
            if heating == is_at_goal:  # heated up to it, or below it and idle
                break
            moved = True
            _switch(self.device, self.program, SLICE_SECONDS, on=heating)
            reading = read_die(self.device)
        return Kept(moved)


def reach_temperature(
    device: Device,
    program: Program,
    settings: HoldSettings,
    *,
    on_progress: ConditioningProgress | None = None,
) -> Hold:
    """Bring the die to the set point with the program as the only heater, and see it settle.

    Load below the set point, idleness from it on: on a die that follows its power at once, that
    switching settles at the set point whatever the time constants, without a model of them. Where
    readings are rounded to 1 C it settles where a reading changes, at most 0.5 C below the set
    point. `Hold.report.reached` is False, with how near it came, where the budget ends, the sensor
    fails, or the set point is seen to be out of reach.

    Raises:
        ConditioningError: the device has no die temperature sensor.
        DeviceLost: the device is gone.

    """
    goal_celsius = _goal(settings)
    start_seconds = told_seconds = device.now()
    approach = Approach(settings, goal_celsius)
    while True:
        state = read_die(device)
        elapsed_seconds = device.now() - start_seconds
        heating = False
        if state.die_celsius is not None:
            heating = state.die_celsius < goal_celsius
            approach.add(elapsed_seconds, state.die_celsius, heating=heating)
            trouble = approach.trouble()
        elif approach.is_empty:
            raise ConditioningError(
                f"{device.identity.name}: cannot hold {goal_celsius:g} °C without a die "
                f"temperature: {no_reading(state)}",
                hint="Leave hold_celsius out of the recipe, or choose a device with a sensor.",
            )
        else:
            trouble = f"the die temperature was lost: {no_reading(state)}"
        settled = trouble is None and approach.is_settled()
        if settled or trouble is not None:
            report = _report(approach, device.now() - start_seconds, goal_celsius, trouble)
            return Hold(device, program, settings, report)
        if on_progress is not None and device.now() - told_seconds >= PROGRESS_SECONDS:
            told_seconds = device.now()
            on_progress(min(1.0, elapsed_seconds / settings.seconds_max), state)
        is_far = abs(approach.celsius - goal_celsius) > FAR_CELSIUS
        _switch(device, program, FAR_SLICE_SECONDS if is_far else SLICE_SECONDS, on=heating)


def _goal(settings: HoldSettings) -> float:
    assert settings.hold_celsius is not None, "a hold needs a set point"
    return settings.hold_celsius


def _switch(device: Device, program: Program, seconds: float, *, on: bool) -> None:
    if on:
        program.run(seconds)
    else:
        device.sleep(seconds)


def _report(
    approach: Approach, seconds: float, goal_celsius: float, trouble: str | None
) -> HoldReport:
    ending = approach.ending()
    detail = None
    if trouble is not None:
        came = "" if ending is None else f"; {describe(ending, goal_celsius)}"
        detail = f"{goal_celsius:g} °C was not reached in {seconds:.0f} s: {trouble}{came}"
    if ending is None:
        return HoldReport(trouble is None, None, None, None, seconds, None, detail)
    return HoldReport(
        reached=trouble is None,
        celsius=ending.celsius,
        error_celsius=ending.celsius - goal_celsius,
        drift_celsius_per_minute=ending.drift_celsius_per_minute,
        seconds=seconds,
        duty_fraction=ending.duty_fraction,
        detail=detail,
    )
