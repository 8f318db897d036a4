"""What a measurement is: device readings, timed samples, and the status a point ends with."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """How a point ended; every point ends with one of these, as a row."""

    OK = "ok"
    IMPRECISE = "imprecise"  # measured, but the budget ended before the interval was narrow enough
    TEMPERATURE_NOT_REACHED = "temperature_not_reached"
    OUT_OF_MEMORY = "out_of_memory"
    UNSUPPORTED = "unsupported"
    DEVICE_LOST = "device_lost"
    FAILED = "failed"


class Role(StrEnum):
    """Why a row was measured: as a point of the recipe, or as the drift sentinel."""

    POINT = "point"
    SENTINEL = "sentinel"


class Source(StrEnum):
    """Where a row's numbers come from."""

    MEASURED = "measured"
    SIMULATED = "simulated"
    IMPORTED = "imported"


class ClockEvent(StrEnum):
    """Why a device runs below its highest clock (NVML's clocks event reasons)."""

    IDLE = "idle"
    APPLICATIONS_CLOCKS = "applications_clocks"
    SW_POWER_CAP = "sw_power_cap"
    HW_SLOWDOWN = "hw_slowdown"
    SYNC_BOOST = "sync_boost"
    SW_THERMAL_SLOWDOWN = "sw_thermal_slowdown"
    HW_THERMAL_SLOWDOWN = "hw_thermal_slowdown"
    HW_POWER_BRAKE_SLOWDOWN = "hw_power_brake_slowdown"
    DISPLAY_CLOCKS = "display_clocks"


THROTTLING_EVENTS = frozenset(
    {
        ClockEvent.SW_POWER_CAP,
        ClockEvent.HW_SLOWDOWN,
        ClockEvent.SW_THERMAL_SLOWDOWN,
        ClockEvent.HW_THERMAL_SLOWDOWN,
        ClockEvent.HW_POWER_BRAKE_SLOWDOWN,
    }
)


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One reading of a device's sensors; None is a sensor that gave no value.

    `throttle_seconds` are cumulative: only differences between two readings mean something.
    `absent` says, by field name, why a value is None.
    """

    at_seconds: float
    die_celsius: float | None = None
    memory_celsius: float | None = None
    sm_clock_hertz: float | None = None
    memory_clock_hertz: float | None = None
    watts: float | None = None
    clock_events: frozenset[ClockEvent] | None = None
    throttle_seconds: dict[ClockEvent, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed sample: seconds per launch, and the device's state when it was taken."""

    latency_seconds: float
    die_celsius: float | None = None
    sm_clock_hertz: float | None = None
    watts: float | None = None
    throttled: bool = False
    throttle_cause: ClockEvent | None = None  # None as well where throttling has no known cause


@dataclass(frozen=True, slots=True)
class ThrottleEvent:
    """A stretch of device time in which the clock was held back, true to about a poll interval.

    `told` is True where the device named the cause, False where it follows from the power or the
    temperature, or is unknown (None).
    """

    start_seconds: float
    end_seconds: float
    cause: ClockEvent | None
    told: bool


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between two bounds that hold it with `confidence` (0..1)."""

    estimate: float
    low: float
    high: float
    confidence: float

    @property
    def relative_half_width_fraction(self) -> float:
        """Half the width over the estimate; infinite where nothing is claimed with confidence."""
        if self.estimate == 0 or self.confidence <= 0:
            return float("inf")
        return (self.high - self.low) / 2 / abs(self.estimate)


@dataclass(frozen=True, slots=True)
class Latency:
    """The timing of one point, in seconds per launch, with the raw samples it came from."""

    median: Interval
    p10_seconds: float
    p90_seconds: float
    p99_seconds: float
    samples: tuple[Sample, ...]
    num_launches: int
    num_rejected: int


@dataclass(frozen=True, slots=True)
class EnergyParts:
    """Joules per launch: idle at the temperature of rest, leakage beyond that, and all the rest.

    The three are None together, with `absent_reason`, where one of the measurements is missing.
    """

    idle: Interval | None
    leakage: Interval | None
    dynamic: Interval | None
    absent_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of one launch, idle power included, and the average power behind it.

    `per_launch` is in joules; None, with `absent_reason`, where it could not be measured.
    """

    per_launch: Interval | None
    average_watts: float | None
    source: str | None
    absent_reason: str | None = None
    parts: EnergyParts | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """What the device was like while a point was measured.

    The seconds of `throttle_events` count from the first reading of the timing.
    """

    hold_celsius: float | None
    warm_up_seconds: float
    warm_up_steady: bool | None
    die_celsius: float | None
    die_celsius_start: float | None
    die_celsius_end: float | None
    memory_celsius: float | None
    sm_clock_hertz: float | None
    sm_clock_hertz_min: float | None
    memory_clock_hertz: float | None
    power_limit_watts: float | None
    idle_watts: float | None
    clock_events: frozenset[ClockEvent] | None
    throttled_fraction: float | None
    l2_state: str
    throttle_events: tuple[ThrottleEvent, ...] = ()
    sm_clock_hertz_max: float | None = None
    rest_celsius: float | None = None
    idle_celsius: float | None = None
    leakage_watts_per_celsius: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one point: a status, why, and as much as could be measured.

    `kernel_choice` is the inner kernel or variant that ran, `kernel_version` of which version, and
    `kernel_config_file` names the tuned settings that decided; None: there was nothing to choose.
    """

    status: Status
    detail: str | None = None
    latency: Latency | None = None
    energy: Energy | None = None
    condition: Condition | None = None
    kernel_choice: str | None = None
    kernel_version: str | None = None
    kernel_config_file: str | None = None
