"""Whether joules per launch, and their parts, are those of a simulated GPU whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from moeprof.conditioning.hold import reach_temperature
from moeprof.conditioning.settings import HoldSettings
from moeprof.conditioning.thermometer import read_die
from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.power import leakage_watts
from moeprof.device.sim.timing import launch_cost
from moeprof.measure.background import Background
from moeprof.measure.energy import measure_energy
from moeprof.measure.energy_parts import split_energy
from moeprof.measure.idle import measure_idle_power
from moeprof.measure.sensor.characterise import characterise_sensors
from moeprof.measure.sensor.stream import Quantity
from moeprof.measure.settings import EnergySettings
from moeprof.measure.static_power import measure_static_power
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.draw import between, drawn_truth, log_between, with_drawn_heat
from moeprof.selfcheck.finding import Promise, of_quantile, of_share, told
from moeprof.selfcheck.work import decode_work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.conditioning.hold import Hold
    from moeprof.device.protocol import Program
    from moeprof.device.sim.timing import LaunchCost
    from moeprof.device.sim.truth import Truth
    from moeprof.hardware.gpu import GPU
    from moeprof.measure.sensor.figures import SensorReport
    from moeprof.measure.static_power import StaticPower
    from moeprof.record import Interval
    from moeprof.selfcheck.finding import Finding

SETTINGS = EnergySettings(window_seconds_max=2.0)
LAUNCH_SECONDS = (10e-6, 10e-3)
_WARM_SECONDS = 60.0
_DROPPED_FRACTION_MAX = 0.05
_RESET_SHARE = 0.25
_RESET_SECONDS = (0.8, 5.0)
_PAUSE_SECONDS = (0.0, 0.5)  # of idling before the measurement, that its first ticks may show
_HELD_SHARE = 0.2
_HELD_TIME_CONSTANTS_SECONDS = (3.0, 40.0)  # so that reaching a temperature takes few steps
_HELD_WARMTH = (0.3, 0.8)  # of the way from rest to the load's own temperature
_CHARACTERISED_SHARE = 0.05  # it takes longer than all else
_MOVED_SHARE = 0.3  # static power is measured first, as in a sweep, and the die warmed again
_MOVED_SECONDS = (3.0, 20.0)

ERROR = Promise(
    "energy_error_p95",
    "joules per launch err by at most 1 % beyond the sensor's gain, in 95 % of trials",
    high=0.01,
)
COVERAGE = Promise(
    "energy_interval_coverage", "9 of 10 intervals hold the joules of a launch", low=0.9
)
PARTS = Promise(
    "energy_parts_error_p95",
    "joules of work, without idle and leakage, err by at most 2 %, in 95 % of trials",
    high=0.02,
)
PARTS_COVERAGE = Promise(
    "energy_parts_coverage", "9 of 10 intervals hold the joules of work", low=0.9
)
STATIC = Promise(
    "static_power_error_p95",
    "power without work at the load's temperature errs by at most 1 %, in 95 % of trials",
    high=0.01,
)
REFUSED = Promise(
    "energy_refused",
    "joules are refused, with a reason, for at most 1 in 5 launches (2 s, reads of up to 1 ms)",
    high=0.2,
)
PARTS_REFUSED = Promise("energy_parts_refused", "at most 1 in 20 is not divided", high=0.05)


@dataclass(frozen=True, slots=True)
class EnergyTrial:
    """What one measurement made of a launch; errors are shares of the truth times the gain.

    None where there was no answer; parts are asked of trials without a hold only.
    """

    held: bool
    reset: bool
    refusal: str | None
    error_fraction: float | None = None
    covered: bool | None = None
    half_width_fraction: float | None = None
    parts_refusal: str | None = None
    dynamic_error_fraction: float | None = None
    dynamic_covered: bool | None = None
    leakage_error_fraction: float | None = None  # of the launch's whole energy
    static_error_fraction: float | None = None
    static_covered: bool | None = None


@dataclass(slots=True)
class WatchedProgram:
    """A program that notes the die's true temperature while it runs."""

    program: Program
    device: SimulatedDevice
    seconds: float = 0.0
    celsius_seconds: float = 0.0
    launches_per_sample: int = field(init=False)

    def __post_init__(self) -> None:
        self.launches_per_sample = self.program.launches_per_sample

    def sample(self) -> float:
        """Run one sample, which is not noted."""
        return self.program.sample()

    def run(self, seconds: float) -> int:
        """Run for about `seconds` and note how warm the die was."""
        before_celsius, before_seconds = die_celsius(self.device), self.device.now()
        num_launches = self.program.run(seconds)
        took_seconds = self.device.now() - before_seconds
        self.seconds += took_seconds
        self.celsius_seconds += (before_celsius + die_celsius(self.device)) / 2 * took_seconds
        return num_launches

    def close(self) -> None:
        """Free what was made ready."""
        self.program.close()

    @property
    def celsius(self) -> float:
        """The die's mean temperature under the program."""
        return self.celsius_seconds / self.seconds


def die_celsius(device: SimulatedDevice) -> float:
    """Return the die's true temperature, which no sensor shows."""
    return float(device._body.die_celsius)  # noqa: SLF001 - an audit sees what a method cannot


def trial(gpu: GPU, random: np.random.Generator) -> EnergyTrial:
    """Measure one launch of a drawn length on a drawn card, then the card's static power."""
    truth = replace(
        drawn_truth(gpu, random),
        dropped_reads_fraction=between(random, (0.0, _DROPPED_FRACTION_MAX)),
    )
    shares = (_HELD_SHARE, _RESET_SHARE, _CHARACTERISED_SHARE, _MOVED_SHARE)
    held, reset, characterised, moved = (bool(random.random() < share) for share in shares)
    if held:
        truth = with_drawn_heat(truth, random, _HELD_TIME_CONSTANTS_SECONDS)
    if reset:
        truth = replace(truth, counter_reset_seconds=between(random, _RESET_SECONDS))
    device = SimulatedDevice(gpu, truth, seed=int(random.integers(2**31)))
    work = decode_work(truth, log_between(random, LAUNCH_SECONDS))
    cost, program = launch_cost(truth, work), device.prepare(work)
    rest_celsius = die_celsius(device)
    rest = measure_idle_power(device, SETTINGS)
    sensors = characterise_sensors(device, program) if characterised else None
    program.run(_WARM_SECONDS)
    hold = None
    if held:
        hold = _held(device, program, between(random, _HELD_WARMTH), rest_celsius)
        if not hold.report.reached:
            return EnergyTrial(held, reset, "the temperature was not reached")
    background = Background(rest, sensors=sensors)
    if moved and not held:
        background = replace(background, static=_static(device, sensors))
        program.run(between(random, _MOVED_SECONDS))
    device.sleep(between(random, _PAUSE_SECONDS))
    watched = WatchedProgram(program, device)
    energy = measure_energy(device, watched, SETTINGS, hold, sensors)
    end_celsius = die_celsius(device)
    static = background.static_at(read_die(device).die_celsius) or _static(device, sensors)
    gain = 1 + truth.counter_gain_error_fraction
    if energy.per_launch is None:
        return EnergyTrial(held, reset, energy.absent_reason)
    dynamic_joules, load_joules = true_joules(truth, cost, watched.celsius)
    joules = dynamic_joules + load_joules
    outcome = EnergyTrial(
        held,
        reset,
        None,
        error_fraction=abs(energy.per_launch.estimate / joules - 1),
        covered=_holds(energy.per_launch, joules),
        half_width_fraction=energy.per_launch.relative_half_width_fraction,
    )
    if held:
        return outcome
    parts = split_energy(energy, static, rest)
    if parts.dynamic is None or parts.leakage is None or static.watts is None:
        return replace(outcome, parts_refusal=parts.absent_reason)
    _, rest_joules = true_joules(truth, cost, rest_celsius)
    leakage_joules = load_joules - rest_joules
    end_watts = gain * (truth.idle_watts + leakage_watts(truth, end_celsius))
    return replace(
        outcome,
        dynamic_error_fraction=abs(parts.dynamic.estimate / dynamic_joules - 1),
        dynamic_covered=_holds(parts.dynamic, dynamic_joules),
        leakage_error_fraction=abs(parts.leakage.estimate - leakage_joules) / joules,
        static_error_fraction=abs(static.watts.estimate / end_watts - 1),
        static_covered=_holds(static.watts, end_watts),
    )


def _static(device: SimulatedDevice, sensors: SensorReport | None) -> StaticPower:
    counter = None if sensors is None else sensors.of(Quantity.ENERGY)
    lag_seconds = 0.0 if counter is None else max(0.0, counter.lag_seconds or 0.0)
    return measure_static_power(device, SETTINGS, lag_seconds=lag_seconds)


def _held(device: SimulatedDevice, program: Program, warmth: float, rest_celsius: float) -> Hold:
    goal_celsius = rest_celsius + warmth * (die_celsius(device) - rest_celsius)
    return reach_temperature(device, program, HoldSettings(hold_celsius=round(goal_celsius)))


def true_joules(truth: Truth, cost: LaunchCost, celsius: float) -> tuple[float, float]:
    """Return the joules of a launch as an unlimited counter would show them: work, and all else.

    At the highest clock, outliers included, times the gain of the board's sensor.
    """
    mean_factor = 1 + truth.outliers_fraction * truth.outlier_extra_fraction
    seconds = cost.seconds(truth.sm_clock_hertz_max, celsius) * mean_factor
    scale_seconds = (1 + truth.counter_gain_error_fraction) * seconds
    dynamic_watts = cost.dynamic_watts(truth.sm_clock_hertz_max, seconds)
    static_watts = truth.idle_watts + leakage_watts(truth, celsius)
    return dynamic_watts * scale_seconds, static_watts * scale_seconds


def _holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


def judge(trials: Sequence[EnergyTrial]) -> tuple[Finding, ...]:
    """Return what all trials come to."""
    answered = [each for each in trials if each.error_fraction is not None]
    split = [each for each in answered if each.dynamic_error_fraction is not None]
    asked = [each for each in answered if not each.held]
    errors = [each.error_fraction for each in answered if each.error_fraction is not None]
    dynamic = [e.dynamic_error_fraction for e in split if e.dynamic_error_fraction is not None]
    static = [e.static_error_fraction for e in split if e.static_error_fraction is not None]
    return (
        of_quantile(ERROR, errors),
        of_share(COVERAGE, sum(bool(each.covered) for each in answered), len(answered)),
        of_share(REFUSED, len(trials) - len(answered), len(trials)),
        told(
            "energy_interval_half_width",
            "median of half the interval, as a share of the joules of a launch",
            _quantile([e.half_width_fraction for e in answered], 0.5),
            len(answered),
        ),
        of_quantile(PARTS, dynamic),
        of_share(PARTS_COVERAGE, sum(bool(e.dynamic_covered) for e in split), len(split)),
        of_quantile(STATIC, static),
        told(
            "static_power_coverage",
            "share of intervals that hold idle power and leakage at the load's temperature",
            sum(bool(each.static_covered) for each in split) / len(split) if split else None,
            len(split),
        ),
        of_share(PARTS_REFUSED, len(asked) - len(split), len(asked)),
        told(
            "leakage_error_p95",
            "error of a launch's leakage, as a share of all its joules",
            _quantile([e.leakage_error_fraction for e in split], 0.95),
            len(split),
        ),
    )


def _quantile(values: Sequence[float | None], quantile: float) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.quantile(known, quantile)) if known else None


CHECKS = (
    Check(
        name="energy",
        figures=(
            ERROR.name,
            COVERAGE.name,
            REFUSED.name,
            "energy_interval_half_width",
            PARTS.name,
            PARTS_COVERAGE.name,
            STATIC.name,
            "static_power_coverage",
            PARTS_REFUSED.name,
            "leakage_error_p95",
        ),
        num_trials=500,
        trial=trial,
        judge=judge,
    ),
)
