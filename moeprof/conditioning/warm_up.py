"""The warm-up: load for the declared time, and a test whether the device was steady at its end."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Protocol

from moeprof.conditioning.warm_up_verdict import WarmUpLog, verdict

if TYPE_CHECKING:
    from moeprof.conditioning.settings import WarmUpSettings
    from moeprof.device.protocol import Device, Program
    from moeprof.record import DeviceState

WINDOW_SECONDS = 1.0
_POLLS_PER_WINDOW = 4
_SAMPLES_PER_WINDOW = 20
_SHORTEST_RUN_SECONDS = 1e-3


class ConditioningProgress(Protocol):
    """Hears, about every second of device time, how far a warm-up or a hold has come."""

    def __call__(self, fraction_done: float, state: DeviceState) -> None:
        """Take the share of the longest time that has passed, and the last reading."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A warm-up as it was done.

    `steady` says whether temperature, clock and latency were shown to be steady at the end; None
    where nothing could be tested. `steady_after_seconds` is when they had become so, None unless
    steady. `detail` says what was tested and found.
    """

    seconds: float
    steady: bool | None
    steady_after_seconds: float | None
    detail: str


def warm_up(
    device: Device,
    program: Program,
    settings: WarmUpSettings,
    *,
    on_progress: ConditioningProgress | None = None,
) -> WarmUp:
    """Keep the device under load for the declared time, and test whether it is steady after it.

    Never starts a run that would end after the declared time, as far as runs keep to the time they
    are given.

    Raises:
        DeviceLost: the device is gone.
        DeviceOutOfMemory: the program cannot go on.

    """
    if settings.warm_up_seconds <= 0:
        return WarmUp(0.0, None, None, "no warm-up was asked for")
    log = WarmUpLog()
    start_seconds = device.now()
    end_seconds = start_seconds + settings.warm_up_seconds
    program.sample()
    sample_seconds = device.now() - start_seconds
    while end_seconds - device.now() > _SHORTEST_RUN_SECONDS:
        window_end_seconds = min(device.now() + WINDOW_SECONDS, end_seconds)
        sampling_seconds = min(_SAMPLES_PER_WINDOW * sample_seconds, WINDOW_SECONDS / 2)
        state = _load(device, program, window_end_seconds - sampling_seconds, start_seconds, log)
        latencies: list[float] = []
        while (
            len(latencies) < _SAMPLES_PER_WINDOW
            and device.now() + sample_seconds < window_end_seconds
        ):
            before_seconds = device.now()
            latencies.append(program.sample())
            sample_seconds = max(sample_seconds, device.now() - before_seconds)
        if latencies:
            log.latencies_seconds.append((device.now() - start_seconds, median(latencies)))
        if on_progress is not None:
            done_fraction = (device.now() - start_seconds) / settings.warm_up_seconds
            on_progress(min(1.0, done_fraction), state)
    steady, steady_after_seconds, detail = verdict(log, settings)
    return WarmUp(device.now() - start_seconds, steady, steady_after_seconds, detail)


def _load(
    device: Device, program: Program, until_seconds: float, start_seconds: float, log: WarmUpLog
) -> DeviceState:
    """Run until a moment, with a few readings on the way; return the last one."""
    while True:
        remaining_seconds = until_seconds - device.now()
        if remaining_seconds > _SHORTEST_RUN_SECONDS:
            program.run(min(WINDOW_SECONDS / _POLLS_PER_WINDOW, remaining_seconds))
        state = device.state()
        elapsed_seconds = state.at_seconds - start_seconds
        if state.die_celsius is not None:
            log.celsius.append((elapsed_seconds, state.die_celsius))
        if state.sm_clock_hertz is not None:
            log.clocks_hertz.append((elapsed_seconds, state.sm_clock_hertz))
        if until_seconds - device.now() <= _SHORTEST_RUN_SECONDS:
            return state
