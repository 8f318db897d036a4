"""Whether the energy counter of a real device tells the same as its launches and its power."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.measure.sensor.characterise import characterise_sensors
from moeprof.measure.sensor.stream import Quantity
from moeprof.measure.ticks import TickWatch, power_between
from moeprof.selfcheck.finding import Finding, Promise, of_number, skipped, told

if TYPE_CHECKING:
    from moeprof.device.protocol import EnergyCounter, Program
    from moeprof.selfcheck.on_device.bench import Bench

_WINDOW_SECONDS = 2.0
_LEAD_IN_SECONDS = 0.5
_CYCLE_SECONDS = 0.02  # shorter than clocks take to go idle
_LOADED_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
_ROUNDS = 2
_POWER_SECONDS = 10.0
_POLL_SECONDS = 0.01
_NO_TICKS = "the energy counter moved too seldom"

LINEAR = Promise(
    "energy_linearity_error",
    "energy grows in proportion to the number of launches, within 3 % of full load",
    high=0.03,
)
SAME = Promise(
    "counter_against_power_error",
    "the counter and the power reading, added up, agree within 5 %",
    high=0.05,
)
SENSOR = ("sensor_period_seconds", "sensor_window_seconds", "sensor_lag_seconds")


def find_energy(bench: Bench) -> tuple[Finding, ...]:
    """Compare power at several launch rates with a line, and the counter with added-up power."""
    counter = bench.device.energy_counter
    if counter is None:
        reason = bench.device.energy_absent_reason or "no energy counter"
        return skipped(LINEAR, reason), skipped(SAME, reason)
    with bench.loaded("cold") as program:
        program.run(_LEAD_IN_SECONDS)
        shares = bench.random.permutation(np.repeat(_LOADED_SHARES, _ROUNDS)).tolist()
        found = [_launches_and_watts(bench, counter, program, share) for share in shares]
        return _linearity([each for each in found if each is not None]), _same(
            bench, counter, program
        )


def find_sensor(bench: Bench) -> tuple[Finding, ...]:
    """Tell the power reading's period, averaging window and lag; nothing is promised of a board."""
    with bench.loaded("cold") as program:
        report = characterise_sensors(bench.device, program)
    figures = report.of(Quantity.POWER) or report.of(Quantity.ENERGY)
    findings = []
    for name in SENSOR:
        words = f"the {name.split('_')[1]} of the {figures.quantity if figures else 'power'} sensor"
        if figures is None:
            findings.append(skipped(Promise(name, words), "the device has no power sensor"))
            continue
        field = name.removeprefix("sensor_")
        value = getattr(figures, field)
        if value is None:
            reason = figures.absent.get(field, "this sensor has none")
            findings.append(skipped(Promise(name, words), reason))
        else:
            findings.append(told(name, words, value, figures.num_updates))
    return tuple(findings)


def _launches_and_watts(
    bench: Bench, counter: EnergyCounter, program: Program, loaded_share: float
) -> tuple[float, float] | None:
    """Return launches per second and watts over a window of ticks, loaded for a share of it."""
    device, watch = bench.device, TickWatch()
    start_seconds = device.now()
    watch.begin(start_seconds)
    while device.now() - start_seconds < _LEAD_IN_SECONDS + _WINDOW_SECONDS:
        end_seconds = device.now() + _CYCLE_SECONDS
        num_launches = program.run(loaded_share * _CYCLE_SECONDS)
        device.sleep(max(0.0, end_seconds - device.now()) if loaded_share < 1 else 0.0)
        joules = counter.read()
        watch.note(device.now(), joules, num_launches)
    segments = watch.after(_LEAD_IN_SECONDS)
    power = power_between(segments)
    if power is None or not power.launch_joules:
        return None
    return power.joules / power.launch_joules / power.seconds, power.joules / power.seconds


def _linearity(points: list[tuple[float, float]]) -> Finding:
    if len({round(rate) for rate, _ in points}) < len(_LOADED_SHARES):
        return skipped(LINEAR, _NO_TICKS)
    rates, watts = np.array(points).T
    slope, level = np.polyfit(rates, watts, 1)
    errors = np.abs(level + slope * rates - watts) / watts.max()
    return of_number(LINEAR, float(errors.max()), len(points))


def _same(bench: Bench, counter: EnergyCounter, program: Program) -> Finding:
    device, watch = bench.device, TickWatch()
    start_seconds = device.now()
    watch.begin(start_seconds)
    readings = []
    while device.now() - start_seconds < _LEAD_IN_SECONDS + _POWER_SECONDS:
        num_launches = program.run(_POLL_SECONDS)
        joules = counter.read()
        watch.note(device.now(), joules, num_launches)
        watts = device.state().watts
        # A reading is a mean of up to a second before it: half of the time is its lead-in.
        if watts is not None and device.now() - start_seconds > _POWER_SECONDS / 2:
            readings.append(watts)
    power = power_between(watch.after(_POWER_SECONDS / 2))
    if power is None:
        return skipped(SAME, _NO_TICKS)
    if not readings:
        return skipped(SAME, "the device gives no power reading")
    error = abs(power.joules / power.seconds / float(np.mean(readings)) - 1)
    return of_number(SAME, error, 1)
