"""One GPU's sensors, limits and counters as NVML gives them, in SI units."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from moeprof.device.nvml_fields import Reading, call, fields
from moeprof.device.nvml_throttling import (
    COUNTER_FIELDS,
    events_of,
    throttle_fields,
    throttle_seconds,
)
from moeprof.record import DeviceState
from moeprof.units import hertz_from_mhz, joules_from_mj, watts_from_mw

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.record import ClockEvent

T = TypeVar("T")

# NVML_CLOCK_SM, NVML_CLOCK_MEM and NVML_TEMPERATURE_GPU (nvml.h).
_CLOCK_SM, _CLOCK_MEMORY, _SENSOR_DIE = 1, 2, 0

# NVML_FI_DEV_* (nvml.h).
_MEMORY_TEMP, _TOTAL_ENERGY = 82, 83
_POWER_AVERAGE, _POWER_INSTANT, _POWER_CURRENT_LIMIT = 185, 186, 190

_SENSORS = (
    "die_celsius",
    "memory_celsius",
    "sm_clock_hertz",
    "memory_clock_hertz",
    "watts",
    "clock_events",
    "throttle_seconds",
)
_MIG_REASON = "MIG splits this GPU, and NVML counts the power of the whole card"


class Nvml:
    """A reader of one GPU, found by its UUID because CUDA and NVML number GPUs differently.

    Nothing of it raises but DeviceLost: `unavailable` says why nothing can be read at all, and
    every single value that is missing is None with a reason. `uuid` has no prefix, as CUDA
    reports it; `library` is the pynvml module, to be given by tests only.
    """

    def __init__(self, uuid: str, *, library: Any | None = None) -> None:
        self.full_uuid = f"GPU-{uuid}"
        self.driver_version: str | None = None
        self.power_limit_watts: float | None = None
        self.energy_absent_reason: str | None = None
        self._handle: Any = None
        self._shared = False
        self._energy_field = False
        self._throttle_fields: dict[ClockEvent, int] = {}
        self._library, self.unavailable = _load(library)
        if self.unavailable is None:
            self.unavailable = self._find(uuid)
        if self.unavailable is None:
            self._probe()
        else:
            self.energy_absent_reason = self.unavailable

    def state(self, at_seconds: float) -> DeviceState:
        """Read every sensor once. Raises DeviceLost."""
        if self.unavailable is not None:
            names = (
                "die_celsius memory_celsius sm_clock_hertz memory_clock_hertz watts clock_events"
            )
            absent = dict.fromkeys((*names.split(), "throttle_seconds"), self.unavailable)
            return DeviceState(at_seconds=at_seconds, absent=absent)
        counters = self._throttle_fields
        ids = (_MEMORY_TEMP, _POWER_INSTANT, _POWER_AVERAGE, *counters.values())
        found = fields(self._library, self._handle, ids)
        readings = {
            "die_celsius": self._die(),
            "memory_celsius": _nonzero(found[_MEMORY_TEMP]),
            "sm_clock_hertz": self._call("nvmlDeviceGetClockInfo", _CLOCK_SM),
            "memory_clock_hertz": self._call("nvmlDeviceGetClockInfo", _CLOCK_MEMORY),
            "watts": self._power(found),
            "clock_events": self._events(),
        }
        absent = {name: got.reason for name, got in readings.items() if got.reason is not None}
        if not counters:
            absent["throttle_seconds"] = "this GPU has no throttling counters"
        value = {name: got.value for name, got in readings.items()}
        return DeviceState(
            at_seconds=at_seconds,
            die_celsius=_scaled(value["die_celsius"], float),
            memory_celsius=_scaled(value["memory_celsius"], float),
            sm_clock_hertz=_scaled(value["sm_clock_hertz"], hertz_from_mhz),
            memory_clock_hertz=_scaled(value["memory_clock_hertz"], hertz_from_mhz),
            watts=_scaled(value["watts"], watts_from_mw),
            clock_events=_scaled(value["clock_events"], events_of),
            throttle_seconds=throttle_seconds(counters, found),
            absent=absent,
        )

    def energy_joules(self) -> float | None:
        """Return joules since the driver was loaded, None where it cannot. Raises DeviceLost."""
        if self.energy_absent_reason is not None:
            return None
        return _scaled(self._energy().value, joules_from_mj)

    def close(self) -> None:
        """Release NVML; a release that fails leaves nothing to be done."""
        if self._library is not None:
            call(self._library, "nvmlShutdown")
            self._library, self.unavailable = None, "NVML was closed"
            self.energy_absent_reason = self.unavailable

    def _find(self, uuid: str) -> str | None:
        found = call(self._library, "nvmlDeviceGetHandleByUUID", f"GPU-{uuid}")
        self._handle = found.value
        if found.value is None:
            part = call(self._library, "nvmlDeviceGetHandleByUUID", f"MIG-{uuid}")
            if part.value is None:
                return f"NVML does not know GPU {uuid}: {found.reason}"
            self.full_uuid = f"MIG-{uuid}"
            parent = "nvmlDeviceGetDeviceHandleFromMigDeviceHandle"
            whole = call(self._library, parent, part.value)
            if whole.value is None:
                return whole.reason
            self._handle, self._shared = whole.value, True
        return None

    def _probe(self) -> None:
        self.driver_version = call(self._library, "nvmlSystemGetDriverVersion").value
        mode = self._call("nvmlDeviceGetMigMode").value
        self._shared = self._shared or (mode is not None and mode[0] == 1)
        ids = (_POWER_CURRENT_LIMIT, *COUNTER_FIELDS)
        found = fields(self._library, self._handle, ids)
        limit = found[_POWER_CURRENT_LIMIT]
        if not limit.value:
            limit = self._call("nvmlDeviceGetEnforcedPowerLimit")
        self.power_limit_watts = _scaled(limit.value or None, watts_from_mw)
        self._throttle_fields = throttle_fields(found)
        if self._shared:
            self.energy_absent_reason = _MIG_REASON
            return
        first = self._energy()
        if first.value is None:
            self._energy_field = True
            if self._energy().value is None:
                self.energy_absent_reason = first.reason

    def _call(self, function: str, *arguments: Any) -> Reading:
        return call(self._library, function, self._handle, *arguments)

    def _energy(self) -> Reading:
        if self._energy_field:
            return fields(self._library, self._handle, [_TOTAL_ENERGY])[_TOTAL_ENERGY]
        return self._call("nvmlDeviceGetTotalEnergyConsumption")

    def _die(self) -> Reading:
        # The versioned getter replaces the older one, which is gone in CUDA 14.
        newer = self._call("nvmlDeviceGetTemperatureV", _SENSOR_DIE)
        if newer.value is not None:
            return newer
        older = self._call("nvmlDeviceGetTemperature", _SENSOR_DIE)
        return older if older.value is not None else newer

    def _power(self, found: dict[int, Reading]) -> Reading:
        if self._shared:
            return Reading(None, _MIG_REASON)
        for field_id in (_POWER_INSTANT, _POWER_AVERAGE):
            if found[field_id].value:
                return found[field_id]
        return _nonzero(self._call("nvmlDeviceGetPowerUsage"))

    def _events(self) -> Reading:
        newer = self._call("nvmlDeviceGetCurrentClocksEventReasons")
        if newer.value is not None:
            return newer
        older = self._call("nvmlDeviceGetCurrentClocksThrottleReasons")
        return older if older.value is not None else newer


def _load(library: Any | None) -> tuple[Any | None, str | None]:
    if library is None:
        try:
            library = import_module("pynvml")
        except ImportError as error:
            return None, f"nvidia-ml-py is not installed: {error}"
    started = call(library, "nvmlInit")
    return (library, None) if started.reason is None else (None, started.reason)


def _nonzero(reading: Reading) -> Reading:
    # Some boards answer 0 with success for a sensor that they do not have.
    return Reading(None, "reads 0, which is no measurement") if reading.value == 0 else reading


def _scaled(value: Any | None, convert: Callable[[Any], T]) -> T | None:
    return None if value is None else convert(value)
