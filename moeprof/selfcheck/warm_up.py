"""Whether a warm-up that is called steady was steady: its verdict against the simulated die."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moeprof.conditioning.settings import WarmUpSettings
from moeprof.conditioning.warm_up import warm_up
from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.power import idle_steady_state
from moeprof.device.sim.thermal import ThermalNetwork
from moeprof.device.sim.timing import launch_cost
from moeprof.device.sim.truth import truth_of
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.draw import (
    between,
    log_between,
    with_drawn_heat,
    with_drawn_noise,
    with_drawn_sensors,
)
from moeprof.selfcheck.finding import Finding, Promise, of_share
from moeprof.selfcheck.work import decode_work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.device.sim.truth import Truth
    from moeprof.device.simulated_work import SimulatedWork
    from moeprof.hardware.gpu import GPU
    from moeprof.record import DeviceState

NUM_TRIALS = 400
_TIME_CONSTANT_SECONDS = (5.0, 300.0)
_AMBIENT_CELSIUS = (18.0, 40.0)
_LAUNCH_SECONDS = (10e-6, 10e-3)
_WARM_UP_SECONDS = (60.0, 600.0)
_LIMITED_FRACTION = 0.1
_LIMIT_FRACTION = (0.2, 1.0)
# The slope of a die that a governor moves to and fro means something over several such moves.
_SLOPE_SECONDS = 30.0
_STILL_FRACTION = 0.5
_SECONDS_PER_MINUTE = 60.0

VERDICT = Promise(
    "warm_up_verdict",
    "a warm-up is called steady only where the die drifts by at most the bound at its end",
    low=0.99,
)
MISSED = Promise(
    "warm_up_missed",
    "of dies that drift by less than half the bound at most 25 % are not called steady",
    high=0.25,
)
WRONGLY = Promise(
    "warm_up_wrongly_steady",
    "of the warm-ups called steady at most 10 % end with a die that drifts by more than the bound",
    high=0.1,  # a test at 5 % errs up to so often where the drift is the bound
)


@dataclass(frozen=True, slots=True)
class WarmedPlant:
    """The verdict on one warm-up, and how the die really drifted in the 30 s around its end."""

    steady: bool | None
    drift_celsius_per_minute: float
    bound_celsius_per_minute: float
    limited: bool
    seconds: float
    detail: str

    @property
    def is_wrong(self) -> bool:
        """Whether it was called steady and was not."""
        drift = abs(self.drift_celsius_per_minute)
        return self.steady is True and drift > self.bound_celsius_per_minute

    @property
    def is_still(self) -> bool:
        """Whether it drifted by less than half the bound."""
        drift = abs(self.drift_celsius_per_minute)
        return drift < _STILL_FRACTION * self.bound_celsius_per_minute


def trial(gpu: GPU, random: np.random.Generator) -> WarmedPlant:
    """Warm up a drawn plant from rest for a drawn time."""
    truth = with_drawn_sensors(with_drawn_noise(truth_of(gpu), random), random)
    truth = with_drawn_heat(truth, random, _TIME_CONSTANT_SECONDS)
    truth = replace(truth, ambient_celsius=between(random, _AMBIENT_CELSIUS))
    work = decode_work(truth, log_between(random, _LAUNCH_SECONDS))
    limited = bool(random.random() < _LIMITED_FRACTION)
    if limited:
        truth = _limited(truth, work, random)
    settings = WarmUpSettings(warm_up_seconds=between(random, _WARM_UP_SECONDS))
    device = SimulatedDevice(gpu, truth, seed=int(random.integers(2**31)))
    seconds: list[float] = []
    celsius: list[float] = []

    def note(fraction_done: float, state: DeviceState) -> None:
        del fraction_done, state
        seconds.append(device.now())
        celsius.append(device._body.die_celsius)  # noqa: SLF001 - an audit knows the truth

    program = device.prepare(work)
    found = warm_up(device, program, settings, on_progress=note)
    end_seconds = device.now()
    while device.now() < end_seconds + _SLOPE_SECONDS / 2:
        program.run(1.0)
        note(1.0, device.state())
    last = np.array(seconds) > end_seconds - _SLOPE_SECONDS / 2
    slope = float(np.polyfit(np.array(seconds)[last] - seconds[-1], np.array(celsius)[last], 1)[0])
    return WarmedPlant(
        steady=found.steady,
        drift_celsius_per_minute=slope * _SECONDS_PER_MINUTE,
        bound_celsius_per_minute=settings.drift_celsius_per_minute_max,
        limited=limited,
        seconds=settings.warm_up_seconds,
        detail=found.detail,
    )


def _limited(truth: Truth, work: SimulatedWork, random: np.random.Generator) -> Truth:
    """Return a truth whose slowdown temperature or power limit this work runs into."""
    network = ThermalNetwork(truth)
    cost = launch_cost(truth, work)
    seconds = cost.seconds(truth.sm_clock_hertz_max, truth.ambient_celsius)
    load_watts = cost.dynamic_watts(truth.sm_clock_hertz_max, seconds)
    loaded = replace(truth, idle_watts=truth.idle_watts + load_watts)
    idle_celsius, _ = idle_steady_state(truth, network)
    full_celsius, _ = idle_steady_state(loaded, network)
    share = between(random, _LIMIT_FRACTION)
    if random.random() < 1 / 2:
        slowdown_celsius = idle_celsius + share * (full_celsius - idle_celsius)
        return replace(truth, slowdown_celsius=slowdown_celsius)
    return replace(truth, power_limit_watts=truth.idle_watts + share * load_watts)


def judge(outcomes: Sequence[WarmedPlant]) -> tuple[Finding, ...]:
    """Return how often the verdict was right, and how often stillness was not seen."""
    still = [plant for plant in outcomes if plant.is_still]
    steady = [plant for plant in outcomes if plant.steady is True]
    num_missed = sum(plant.steady is not True for plant in still)
    return (
        of_share(VERDICT, sum(not plant.is_wrong for plant in outcomes), len(outcomes)),
        of_share(MISSED, num_missed, len(still)),
        of_share(WRONGLY, sum(plant.is_wrong for plant in steady), len(steady)),
    )


CHECKS = (Check("warm_up", (VERDICT.name, MISSED.name, WRONGLY.name), NUM_TRIALS, trial, judge),)
