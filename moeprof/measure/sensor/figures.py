"""What was found of each sensor, or why it was not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moeprof.measure.sensor.fit import fit_window_and_lag
from moeprof.measure.sensor.load_course import LoadCourse
from moeprof.measure.sensor.load_power import launch_joules, load_watts
from moeprof.measure.sensor.stream import Quantity, Unclear
from moeprof.measure.sensor.updates import find_updates

if TYPE_CHECKING:
    from moeprof.measure.sensor.fit import Fitted
    from moeprof.measure.sensor.stream import Phase, Recording, SensorStream
    from moeprof.measure.sensor.updates import Updates

# A lag known worse than this is not told, nor a window known worse than this and this share of it.
ERROR_SECONDS_MAX = 0.01
WINDOW_ERROR_FRACTION_MAX = 0.05
PAUSED = "the load paused for every reading; a recording of a steady load tells it"
NO_LOAD = "when the device was loaded is not known; give the phases of the load"

_OF_LOAD = ("load_watts", "launch_joules")


@dataclass(frozen=True, slots=True)
class SensorFigures:
    """One sensor: a reading at t is the mean power from t - lag - window to t - lag.

    Errors are 95 % half-widths. `load_watts` is the mean power of the phases under load. `absent`
    says, by field name, why a figure is None; a counter of energy has no window.
    """

    name: str
    quantity: Quantity
    num_reads: int
    num_updates: int
    period_seconds: float | None = None
    period_error_seconds: float | None = None
    window_seconds: float | None = None
    window_error_seconds: float | None = None
    lag_seconds: float | None = None
    lag_error_seconds: float | None = None
    load_watts: float | None = None
    launch_joules: float | None = None
    absent: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SensorReport:
    """Every sensor of a recording, and over how many seconds it was watched."""

    sensors: tuple[SensorFigures, ...]
    seconds: float
    num_phases: int | None

    def of(self, quantity: Quantity) -> SensorFigures | None:
        """Return the first sensor of a quantity."""
        return next((each for each in self.sensors if each.quantity is quantity), None)


def describe_sensors(recording: Recording) -> SensorReport:
    """Return what a recording tells of its sensors; the same for one polled and one from a file."""
    seconds = max(
        (float(s.at_seconds[-1] - s.at_seconds[0]) for s in recording.streams if len(s.values)),
        default=0.0,
    )
    return SensorReport(
        sensors=tuple(_figures(stream, recording) for stream in recording.streams),
        seconds=seconds,
        num_phases=None if recording.phases is None else len(recording.phases),
    )


def _figures(stream: SensorStream, recording: Recording) -> SensorFigures:
    phases = recording.phases
    asked = ["lag_seconds"]
    if stream.quantity is Quantity.POWER:
        asked.insert(0, "window_seconds")
    updates = find_updates(stream)
    if isinstance(updates, Unclear):
        names = ["period_seconds", *asked, *_OF_LOAD]
        absent = dict.fromkeys(names, updates.reason)
        return SensorFigures(stream.name, stream.quantity, len(stream.values), 0, absent=absent)
    found: dict[str, float] = {
        "period_seconds": updates.period_seconds,
        "period_error_seconds": updates.period_error_seconds,
    }
    if phases:
        fitted = fit_window_and_lag(LoadCourse(phases), updates, stream.quantity)
        more, absent = _known(fitted, asked)
        found |= more
        if recording.is_paused:
            more, absent_too = {}, dict.fromkeys(_OF_LOAD, PAUSED)
        else:
            more, absent_too = _of_load(stream, updates, phases, found)
        found |= more
        absent |= absent_too
    else:
        absent = dict.fromkeys([*asked, *_OF_LOAD], NO_LOAD)
    return SensorFigures(
        stream.name,
        stream.quantity,
        len(stream.values),
        len(updates.values),
        absent=absent,
        **found,
    )


def _known(fitted: Fitted | Unclear, asked: list[str]) -> tuple[dict[str, float], dict[str, str]]:
    """Return what a fit is sure of, and why it is not of the rest."""
    if isinstance(fitted, Unclear):
        return {}, dict.fromkeys(asked, fitted.reason)
    found: dict[str, float] = {}
    absent: dict[str, str] = {}
    for name in asked:
        error_name = name.replace("_seconds", "_error_seconds")
        value, error = getattr(fitted, name), getattr(fitted, error_name)
        limit = ERROR_SECONDS_MAX
        if name == "window_seconds":
            limit = max(limit, WINDOW_ERROR_FRACTION_MAX * value)
        if not error <= limit:  # nor what is not a number
            absent[name] = f"it is known to {1000 * error:.3g} ms only: too few readings on edges"
        else:
            found |= {name: value, error_name: error}
    return found, absent


def _of_load(
    stream: SensorStream, updates: Updates, phases: tuple[Phase, ...], found: dict[str, float]
) -> tuple[dict[str, float], dict[str, str]]:
    if "lag_seconds" not in found:
        return {}, dict.fromkeys(_OF_LOAD, "the sensor's lag is not known")
    watts = load_watts(
        stream,
        updates,
        phases,
        window_seconds=found.get("window_seconds", 0.0),
        lag_seconds=found["lag_seconds"],
    )
    if isinstance(watts, Unclear):
        return {}, dict.fromkeys(_OF_LOAD, watts.reason)
    joules = launch_joules(watts, phases)
    if isinstance(joules, Unclear):
        return {"load_watts": watts}, {"launch_joules": joules.reason}
    return {"load_watts": watts, "launch_joules": joules}, {}
