"""Whether a held temperature is the one asked for: the hold against the simulated die itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from moeprof.conditioning.hold import reach_temperature
from moeprof.conditioning.settings import HoldSettings
from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.power import idle_steady_state, leakage_watts
from moeprof.device.sim.thermal import ThermalNetwork
from moeprof.device.sim.timing import launch_cost
from moeprof.device.sim.truth import truth_of
from moeprof.measure.energy import measure_energy
from moeprof.measure.settings import EnergySettings, StoppingSettings
from moeprof.measure.timing import measure_latency
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.draw import (
    between,
    log_between,
    with_drawn_heat,
    with_drawn_noise,
    with_drawn_sensors,
)
from moeprof.selfcheck.finding import Finding, Promise, of_share, of_worst
from moeprof.selfcheck.watched import WatchedDevice
from moeprof.selfcheck.work import decode_work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.conditioning.hold import Hold
    from moeprof.device.protocol import Device, Program
    from moeprof.device.sim.truth import Truth
    from moeprof.hardware.gpu import GPU

NUM_TRIALS = 100
_AMBIENT_CELSIUS = (18.0, 40.0)
_LAUNCH_SECONDS = (10e-6, 10e-3)
_LOADED_BEFORE_SECONDS_MAX = 300.0
_MARGIN_CELSIUS = 1.0
# Of the budget, what a hold may need to settle and to show it: the rest has to bring it there.
_SETTLES = 3.0
_STEP_SECONDS = 1.0
_EVEN_SECONDS = 0.04
_KEPT_SECONDS_MIN = 60.0
_CHUNK_SECONDS = 0.04
# Never narrow enough, so that all the time is used.
_STOPPING = StoppingSettings(relative_half_width_fraction=1e-9, num_samples_max=1_200)
_SECONDS_PER_MINUTE = 60.0

ERROR = Promise(
    "hold_error_celsius",
    "the die is within 1 °C of its set point from the moment it is called held, measured or not",
    high=1.0,
)
DRIFT = Promise(
    "hold_drift_celsius_per_minute",
    "a held die drifts by at most 0.2 °C a minute, over a minute or more of measuring and keeping",
    high=0.2,
)
REACHED = Promise(
    "hold_reached", "a set point that load and idleness can reach in time is held", low=0.95
)
ENERGY = Promise(
    "hold_energy_measured", "a launch's energy is measured at 7 of 10 held temperatures", low=0.7
)


@dataclass(frozen=True, slots=True)
class HeldPlant:
    """What became of one set point; `error_celsius` is the largest, None where nothing was held."""

    reachable: bool
    reached: bool
    error_celsius: float | None
    drift_celsius_per_minute: float | None
    energy_measured: bool
    detail: str | None


def trial(gpu: GPU, random: np.random.Generator) -> HeldPlant:
    """Hold a drawn set point on a drawn plant, and measure there for a minute or more."""
    truth = with_drawn_sensors(with_drawn_noise(truth_of(gpu), random), random)
    truth = replace(
        with_drawn_heat(truth, random), ambient_celsius=between(random, _AMBIENT_CELSIUS)
    )
    work = decode_work(truth, log_between(random, _LAUNCH_SECONDS))
    device = SimulatedDevice(gpu, truth, seed=int(random.integers(2**31)))
    program = device.prepare(work)
    program.run(between(random, (_STEP_SECONDS, _LOADED_BEFORE_SECONDS_MAX)))
    cost = launch_cost(truth, work)
    seconds = cost.seconds(truth.sm_clock_hertz_max, truth.ambient_celsius)
    load_watts = cost.dynamic_watts(truth.sm_clock_hertz_max, seconds)
    network = ThermalNetwork(truth)
    idle_celsius, _ = idle_steady_state(truth, network)
    full_celsius, _ = idle_steady_state(
        replace(truth, idle_watts=truth.idle_watts + load_watts), network
    )
    span = (idle_celsius + _MARGIN_CELSIUS, full_celsius - _MARGIN_CELSIUS)
    hold_celsius = between(random, (span[0], max(span)))
    settings = HoldSettings(hold_celsius)
    reachable = span[0] < span[1] and _is_reached_in_time(truth, device, load_watts, settings)
    watched = WatchedDevice(device, program)
    hold = reach_temperature(cast("Device", watched), cast("Program", watched), settings)
    if not hold.report.reached:
        return HeldPlant(reachable, False, None, None, False, hold.report.detail)
    watched.truth.clear()
    energy_measured = _use(watched, hold)
    series = np.array(watched.truth)
    even = np.arange(series[0, 0], series[-1, 0], _EVEN_SECONDS)
    celsius = np.interp(even, series[:, 0], series[:, 1])
    slope = float(np.polyfit(even - even[0], celsius, 1)[0])
    return HeldPlant(
        reachable=reachable,
        reached=True,
        error_celsius=float(np.abs(series[:, 1] - hold_celsius).max()),
        drift_celsius_per_minute=slope * _SECONDS_PER_MINUTE,
        energy_measured=energy_measured,
        detail=None,
    )


def _is_reached_in_time(
    truth: Truth, device: SimulatedDevice, load_watts: float, settings: HoldSettings
) -> bool:
    """Return whether load or idleness alone bring the die there in most of the budget."""
    body, network = device._body, ThermalNetwork(truth)  # noqa: SLF001 - see above
    die, sink, goal = body.die_celsius, body.sink_celsius, settings.hold_celsius
    heats = die < goal
    for _ in range(int(settings.seconds_max - _SETTLES * settings.settle_seconds)):
        watts = truth.idle_watts + leakage_watts(truth, die) + heats * load_watts
        die, sink = network.after(_STEP_SECONDS, die, sink, watts)
        if (die >= goal) == heats:
            return True
    return False


def _use(watched: WatchedDevice, hold: Hold) -> bool:
    """Keep the temperature and measure there, in turn; return whether energy could be measured."""
    device, program = cast("Device", watched), cast("Program", watched)
    start_seconds = device.now()
    measured = False
    while device.now() - start_seconds < _KEPT_SECONDS_MIN:
        _keep(watched, hold, 15.0)
        measure_latency(device, program, _STOPPING, hold)
        energy = measure_energy(device, program, EnergySettings(), hold)
        measured = energy.per_launch is not None
    return measured


def _keep(watched: WatchedDevice, hold: Hold, seconds: float) -> None:
    end_seconds = watched.device.now() + seconds
    while watched.device.now() < end_seconds:
        hold.keep()
        watched.run(_CHUNK_SECONDS)


def judge(outcomes: Sequence[HeldPlant]) -> tuple[Finding, ...]:
    """Return how near, how still and how often the set points were held."""
    held = [plant for plant in outcomes if plant.reached]
    reachable = [plant for plant in outcomes if plant.reachable]
    errors = [plant.error_celsius for plant in held if plant.error_celsius is not None]
    drifts = [
        abs(plant.drift_celsius_per_minute)
        for plant in held
        if plant.drift_celsius_per_minute is not None
    ]
    return (
        of_worst(ERROR, errors),
        of_worst(DRIFT, drifts),
        of_share(REACHED, sum(plant.reached for plant in reachable), len(reachable)),
        of_share(ENERGY, sum(plant.energy_measured for plant in held), len(held)),
    )


CHECKS = (
    Check("hold", (ERROR.name, DRIFT.name, REACHED.name, ENERGY.name), NUM_TRIALS, trial, judge),
)
