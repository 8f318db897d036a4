"""A die temperature reached and kept by load that is switched on and off, and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.conditioning.approach import Approach, describe
from moeprof.conditioning.regulator import Regulator
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
# On a die that was seen to be slow, slices are as long as it may take to move so far.
_SLICE_CELSIUS = 0.04
KEEP_SECONDS_MAX = 5.0
PROGRESS_SECONDS = 1.0
_PROBE_AFTER_SECONDS = 5.0
# How far uninterrupted load may take the die from the edge that is held, and from the set point.
_ROOM_CELSIUS = 0.5
_ROOM_FRACTION = 0.7  # of the tolerance
_ROOM_SECONDS = 5.0
_UNWATCHED_FRACTION = 0.7
_SLOWEST = 1e-3  # degrees a second
_ROOM_SECONDS_MIN = 0.6
_COLD_FRACTION = 0.85


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


@dataclass(slots=True)
class Hold:
    """A temperature to keep; everything it decides comes from the device's readings.

    The device is taken to be under load whenever it is not inside one of these methods.
    """

    device: Device
    program: Program
    settings: HoldSettings
    report: HoldReport
    regulator: Regulator | None = None

    def keep(self, state: DeviceState | None = None) -> Kept:
        """Idle until load is due again, or heat where it is too cold, for 5 s at most.

        `state` is a reading just made, if there is one. Called between chunks of samples, which
        themselves heat: so it heats only near the lower end of the tolerance. Raises DeviceLost.
        """
        regulator, start_seconds = self._regulator(), self.device.now()
        moved = False
        reading = self._note(read_die(self.device, state), loaded=True)
        heating = self._is_too_cold()
        while self.device.now() - start_seconds < KEEP_SECONDS_MAX:
            if reading.die_celsius is None:
                return Kept(moved, _lost(reading))
            if heating:
                if regulator.celsius >= min(regulator.edge_celsius, _goal(self.settings)):
                    break
            elif regulator.wants_load(SLICE_SECONDS) and not self._is_outside():
                break
            moved = True
            _switch(self.device, self.program, SLICE_SECONDS, on=heating)
            reading = self._note(read_die(self.device), loaded=heating)
        return Kept(moved)

    def make_room(self) -> Kept:
        """Idle, for 5 s at most, until load may follow for as long as the tolerance allows.

        For windows of load that must not be interrupted; `is_too_hot` says when one has to end.
        Raises DeviceLost.
        """
        regulator, start_seconds = self._regulator(), self.device.now()
        low_celsius, _ = self._room()
        moved = False
        reading = self._note(read_die(self.device), loaded=True)
        while self.device.now() - start_seconds < KEEP_SECONDS_MAX:
            if reading.die_celsius is None:
                return Kept(moved, _lost(reading))
            if regulator.celsius <= low_celsius:
                break
            moved = True
            self.device.sleep(SLICE_SECONDS)
            reading = self._note(read_die(self.device), loaded=False)
        regulator.forgive()
        return Kept(moved)

    def is_too_hot(self, state: DeviceState) -> bool:
        """Return whether load has to end, by a reading made under load that has not paused.

        Raises nothing: a dropped reading is bridged by what is known of the die's speed.
        """
        self._note(state, loaded=True)
        return self._regulator().celsius >= self._room()[1]

    def unwatched_seconds(self) -> float:
        """Return for how long load may go on without a reading: most of the room that is left."""
        regulator = self._regulator()
        left_celsius = max(0.0, self._room()[1] - regulator.celsius)
        seconds = left_celsius / max(regulator.heating_celsius_per_second, _SLOWEST)
        return _UNWATCHED_FRACTION * seconds

    def _note(self, state: DeviceState, *, loaded: bool) -> DeviceState:
        self._regulator().note(state.at_seconds, state.die_celsius, loaded=loaded)
        return state

    def _regulator(self) -> Regulator:
        if self.regulator is None:
            self.regulator = Regulator(_goal(self.settings))
        return self.regulator

    def _room(self) -> tuple[float, float]:
        """Return between which temperatures uninterrupted load may run, the edge in their middle.

        A slow die needs less room for a long window, so it is moved less; a fast one gets all that
        the tolerance has, even if the edge is then nearer to one end.
        """
        goal_celsius, regulator = _goal(self.settings), self._regulator()
        far_celsius = _ROOM_FRACTION * self.settings.tolerance_celsius
        speed = regulator.heating_celsius_per_second
        room_celsius = min(
            far_celsius,
            max(min(_ROOM_CELSIUS, speed * _ROOM_SECONDS / 2), speed * _ROOM_SECONDS_MIN / 2),
        )
        middle_celsius = min(
            max(regulator.edge_celsius, goal_celsius - far_celsius + room_celsius),
            goal_celsius + far_celsius - room_celsius,
        )
        return middle_celsius - room_celsius, middle_celsius + room_celsius

    def _is_outside(self) -> bool:
        excess_celsius = self._regulator().celsius - _goal(self.settings)
        return excess_celsius > self.settings.tolerance_celsius

    def _is_too_cold(self) -> bool:
        missing_celsius = _goal(self.settings) - self._regulator().celsius
        return missing_celsius > _COLD_FRACTION * self.settings.tolerance_celsius


def reach_temperature(
    device: Device,
    program: Program,
    settings: HoldSettings,
    *,
    on_progress: ConditioningProgress | None = None,
) -> Hold:
    """Bring the die to the set point with the program as the only heater, and see it settle.

    Load below the set point, idleness above it, until that has shown what share of load keeps the
    die there (see `Regulator`). `Hold.report.reached` is False, with how near it came, where the
    budget ends, the sensor fails, or the set point is seen to be out of reach.

    Raises:
        ConditioningError: the device has no die temperature sensor.
        DeviceLost: the device is gone.

    """
    goal_celsius = _goal(settings)
    start_seconds = told_seconds = device.now()
    approach = Approach(settings, goal_celsius)
    probe_after_seconds = min(_PROBE_AFTER_SECONDS, settings.settle_seconds)
    regulator = Regulator(goal_celsius, probe_after_seconds=probe_after_seconds)
    heating = False
    while True:
        state = read_die(device)
        elapsed_seconds = device.now() - start_seconds
        regulator.note(state.at_seconds, state.die_celsius, loaded=heating)
        slice_seconds = _slice_seconds(regulator, approach.celsius - goal_celsius)
        heating = regulator.wants_load(slice_seconds)
        if state.die_celsius is not None:
            approach.add(elapsed_seconds, state.die_celsius, heating=heating)
            trouble = approach.trouble()
        elif approach.is_empty:
            raise ConditioningError(
                f"{device.identity.name}: cannot hold {goal_celsius:g} °C without a die "
                f"temperature: {no_reading(state)}",
                hint="Leave hold_celsius out of the recipe, or choose a device with a sensor.",
            )
        else:
            trouble = _lost(state)
        is_balanced = regulator.balanced_seconds >= settings.settle_seconds
        is_known = is_balanced and regulator.has_probed
        settled = trouble is None and is_known and approach.is_settled()
        if settled or trouble is not None:
            report = _report(approach, device.now() - start_seconds, goal_celsius, trouble)
            return Hold(device, program, settings, report, regulator)
        if on_progress is not None and device.now() - told_seconds >= PROGRESS_SECONDS:
            told_seconds = device.now()
            on_progress(min(1.0, elapsed_seconds / settings.seconds_max), state)
        _switch(device, program, slice_seconds, on=heating)


def _slice_seconds(regulator: Regulator, off_celsius: float) -> float:
    if abs(off_celsius) > FAR_CELSIUS:
        return FAR_SLICE_SECONDS
    fastest = regulator.fastest_celsius_per_second
    if fastest is None:
        return SLICE_SECONDS
    return min(max(_SLICE_CELSIUS / fastest, SLICE_SECONDS), FAR_SLICE_SECONDS)


def _lost(state: DeviceState) -> str:
    return f"the die temperature was lost: {no_reading(state)}"


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
