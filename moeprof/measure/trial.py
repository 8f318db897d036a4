"""One trial: a point timed and metered under one condition, and what became of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from moeprof.measure.energy import measure_energy
from moeprof.measure.energy_parts import split_energy
from moeprof.measure.timing import measure_latency
from moeprof.record import Condition, Outcome, Status

if TYPE_CHECKING:
    from moeprof.conditioning.hold import Hold
    from moeprof.conditioning.warm_up import WarmUp
    from moeprof.device.protocol import Device, Program
    from moeprof.measure.background import Background
    from moeprof.measure.readings import Readings
    from moeprof.measure.settings import EnergySettings, StoppingSettings
    from moeprof.measure.timing import TimingProgress
    from moeprof.record import Latency


def measure_point(  # noqa: PLR0913 - one point is all of these
    device: Device,
    program: Program,
    *,
    stopping: StoppingSettings,
    energy: EnergySettings,
    hold: Hold | None,
    warm_up: WarmUp,
    background: Background,
    l2_state: str,
    undisturbed_hertz: float | None = None,
    on_progress: TimingProgress | None = None,
) -> Outcome:
    """Measure latency, then energy, of a program on a device that conditioning has made ready.

    `undisturbed_hertz` is the highest SM clock seen before: against it throttling shows that
    lasts the whole point.

    A hold that was not reached is not kept either: the point is measured as the device is, and its
    status says so.

    Raises:
        DeviceLost: the device is gone.
        DeviceOutOfMemory: the program cannot go on.

    """
    kept = hold if hold is not None and hold.report.reached else None
    latency, readings = measure_latency(
        device,
        program,
        stopping,
        kept,
        undisturbed_hertz=undisturbed_hertz,
        on_progress=on_progress,
    )
    joules = measure_energy(device, program, energy, kept, background.sensors)
    static, rest = background.static, background.rest
    moved = background.static_at(readings.die_celsius_end)
    if moved is not None and rest is not None and joules.per_launch is not None:
        joules = replace(joules, parts=split_energy(joules, moved, rest))
    status, detail = _verdict(latency, readings, stopping, hold)
    return Outcome(
        status=status,
        detail=detail,
        latency=latency,
        energy=joules,
        condition=Condition(
            hold_celsius=None if hold is None else hold.settings.hold_celsius,
            warm_up_seconds=warm_up.seconds,
            warm_up_steady=warm_up.steady,
            die_celsius=readings.die_celsius,
            die_celsius_start=readings.die_celsius_start,
            die_celsius_end=readings.die_celsius_end,
            memory_celsius=readings.memory_celsius,
            sm_clock_hertz=readings.sm_clock_hertz,
            sm_clock_hertz_min=readings.sm_clock_hertz_min,
            memory_clock_hertz=readings.memory_clock_hertz,
            power_limit_watts=device.power_limit_watts,
            idle_watts=None if static is None or static.watts is None else static.watts.estimate,
            clock_events=readings.clock_events,
            throttled_fraction=readings.throttled_fraction,
            l2_state=l2_state,
            throttle_events=tuple(
                replace(
                    event,
                    start_seconds=event.start_seconds - readings.start_seconds,
                    end_seconds=event.end_seconds - readings.start_seconds,
                )
                for event in readings.throttle_events
            ),
            sm_clock_hertz_max=readings.sm_clock_hertz_max,
            rest_celsius=None if rest is None else rest.die_celsius,
            idle_celsius=None if static is None else static.die_celsius,
            leakage_watts_per_celsius=(
                None
                if static is None or static.watts_per_celsius is None
                else static.watts_per_celsius.estimate
            ),
        ),
    )


def _verdict(
    latency: Latency | None, readings: Readings, stopping: StoppingSettings, hold: Hold | None
) -> tuple[Status, str | None]:
    if hold is not None and not hold.report.reached:
        return Status.TEMPERATURE_NOT_REACHED, hold.report.detail
    if latency is None:
        reasons = ", ".join(f"{count}: {why}" for why, count in readings.num_rejected.items())
        detail = f"no sample was kept ({reasons or readings.ended_by})"
        status = Status.FAILED if hold is None else Status.TEMPERATURE_NOT_REACHED
        return status, detail
    if readings.ended_by is None:
        return Status.OK, None
    if latency.median.confidence < stopping.confidence:
        detail = (
            f"{len(latency.samples)} samples are too few for an interval with confidence "
            f"{stopping.confidence:g}; ended by {readings.ended_by}"
        )
        return Status.IMPRECISE, detail
    half_fraction = latency.median.relative_half_width_fraction
    if half_fraction <= stopping.relative_half_width_fraction:
        detail = (
            f"{len(latency.samples)} samples that depend on each other are too few to trust their "
            f"interval; ended by {readings.ended_by}"
        )
        return Status.IMPRECISE, detail
    detail = (
        f"half the interval is {100 * half_fraction:.2g} % of the "
        f"median, {100 * stopping.relative_half_width_fraction:g} % was asked; "
        f"ended by {readings.ended_by}"
    )
    return Status.IMPRECISE, detail
