"""Simulated GPUs with throttling and lying sensors, as chance has drawn them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moeprof.device.sim.device import SimulatedDevice
from moeprof.device.sim.planted import Planted, PlantedThrottle
from moeprof.device.sim.power import leakage_watts
from moeprof.device.sim.timing import launch_cost
from moeprof.record import THROTTLING_EVENTS
from moeprof.selfcheck.draw import between, drawn_truth, log_between
from moeprof.selfcheck.work import decode_work

if TYPE_CHECKING:
    import numpy as np

    from moeprof.device.sim.truth import Truth
    from moeprof.device.simulated_work import SimulatedWork
    from moeprof.hardware.gpu import GPU

# Shares of the runs
_KINDS = {"planted": 0.6, "none": 0.16, "power": 0.12, "heat": 0.12}
_FALSE_CAPS_SHARE = 0.3
_THROUGHOUT_SHARE = 0.08
_LOWER_CLOCK_SHARE = 0.3
_REMEMBERED_SHARE = 0.7
_SLOWDOWN_KNOWN_SHARE = 0.8

_TIMING_SECONDS = (2.0, 5.0)
_LAUNCH_SECONDS = (1.5e-3, 5e-3)
_THROTTLE_SECONDS = (0.05, 5.0)
_CLOCK_FRACTION = (0.5, 0.95)
_GAP_SECONDS = (0.15, 1.5)
_NUM_THROTTLES_MAX = 3
_APPLICATION_CLOCK_FRACTION = (0.7, 0.95)  # a highest clock that somebody has set lower for good
_CAP_FRACTION = (0.7, 0.95)  # a power limit below what the work draws
_HEATING_SECONDS = (20.0, 60.0)
_NUM_WANDER_STEPS_MAX = 2

FREE_SECONDS = 0.06  # of load before the first throttle, for a look at the undisturbed clock
_CAUSES = (*sorted(THROTTLING_EVENTS), None)


@dataclass(frozen=True, slots=True)
class Case:
    """A device, its work, and what else the timing of it depends on.

    `heating_seconds` of load come before the timing; `is_remembered` says whether the timing is
    told the undisturbed clock.
    """

    device: SimulatedDevice
    truth: Truth
    work: SimulatedWork
    timing_seconds: float
    heating_seconds: float
    is_remembered: bool


def drawn_case(gpu: GPU, random: np.random.Generator) -> Case:
    """Return a device with planted throttles, natural ones, or none, whose sensors may lie."""
    kind = str(random.choice(list(_KINDS), p=list(_KINDS.values())))
    timing_seconds = between(random, _TIMING_SECONDS)
    truth = _with_drawn_clock(drawn_truth(gpu, random), random)
    work = decode_work(truth, log_between(random, _LAUNCH_SECONDS))
    throttles = _throttles(random, timing_seconds) if kind == "planted" else ()
    truth = replace(truth, planted=_with_drawn_lies(throttles, random, timing_seconds))
    seed = int(random.integers(2**31))
    heating_seconds = 0.0
    if kind == "power":
        truth = _capped(truth, work, random)
    elif kind == "heat":
        heating_seconds = between(random, _HEATING_SECONDS)
        until_seconds = heating_seconds + between(random, (0.0, timing_seconds / 2))
        truth = replace(
            truth, slowdown_celsius=_reached_celsius(gpu, truth, work, seed, until_seconds)
        )
    known = random.random() < _SLOWDOWN_KNOWN_SHARE
    card = replace(gpu, slowdown_celsius=truth.slowdown_celsius if known else None)
    return Case(
        device=SimulatedDevice(card, truth, seed=seed),
        truth=truth,
        work=work,
        timing_seconds=timing_seconds,
        heating_seconds=heating_seconds,
        is_remembered=bool(random.random() < _REMEMBERED_SHARE),
    )


def _with_drawn_clock(truth: Truth, random: np.random.Generator) -> Truth:
    fraction = between(random, _APPLICATION_CLOCK_FRACTION)
    if random.random() >= _LOWER_CLOCK_SHARE:
        return truth
    return replace(
        truth,
        sm_clock_hertz_max=fraction * truth.sm_clock_hertz_max,
        sm_clock_hertz_min=fraction * truth.sm_clock_hertz_min,
    )


def _throttles(random: np.random.Generator, timing_seconds: float) -> tuple[PlantedThrottle, ...]:
    if random.random() < _THROUGHOUT_SHARE:
        return (_throttle(random, FREE_SECONDS + 0.01, 2 * timing_seconds),)
    start_seconds = between(random, (FREE_SECONDS + 0.01, timing_seconds))
    throttles = []
    for _ in range(int(random.integers(1, _NUM_THROTTLES_MAX, endpoint=True))):
        throttles.append(_throttle(random, start_seconds, log_between(random, _THROTTLE_SECONDS)))
        start_seconds = throttles[-1].end_seconds + between(random, _GAP_SECONDS)
    return tuple(throttles)


def _throttle(random: np.random.Generator, start_seconds: float, seconds: float) -> PlantedThrottle:
    cause = _CAUSES[int(random.integers(len(_CAUSES)))]
    clock_fraction = between(random, _CLOCK_FRACTION)
    return PlantedThrottle(start_seconds, start_seconds + seconds, cause, clock_fraction)


def _with_drawn_lies(
    throttles: tuple[PlantedThrottle, ...], random: np.random.Generator, timing_seconds: float
) -> Planted:
    reasons = random.choice(["true", "silent", "wrong"], p=[0.5, 0.3, 0.2])
    counters = random.choice(["true", "silent", "absent"], p=[0.4, 0.3, 0.3])
    wrong = sorted(THROTTLING_EVENTS)[int(random.integers(len(THROTTLING_EVENTS)))]
    start_seconds = between(random, (-1.0, timing_seconds))
    false_cap = (start_seconds, start_seconds + between(random, (0.0, 2 * timing_seconds)))
    return Planted(
        throttles=throttles,
        reasons_silent=reasons == "silent",
        wrong_reason=wrong if reasons == "wrong" else None,
        false_power_caps=(false_cap,) if random.random() < _FALSE_CAPS_SHARE else (),
        counters_silent=counters == "silent",
        counters_absent=counters == "absent",
        clock_wander_steps=int(random.integers(_NUM_WANDER_STEPS_MAX, endpoint=True)),
    )


def _capped(truth: Truth, work: SimulatedWork, random: np.random.Generator) -> Truth:
    """Return a truth whose power limit is below what the work draws on a cool card."""
    cost = launch_cost(truth, work)
    clock_hertz, ambient_celsius = truth.sm_clock_hertz_max, truth.ambient_celsius
    dynamic_watts = cost.dynamic_watts(clock_hertz, cost.seconds(clock_hertz, ambient_celsius))
    watts = truth.idle_watts + leakage_watts(truth, ambient_celsius) + dynamic_watts
    return replace(truth, power_limit_watts=between(random, _CAP_FRACTION) * watts)


def _reached_celsius(
    gpu: GPU, truth: Truth, work: SimulatedWork, seed: int, seconds: float
) -> float:
    """Return the whole degrees that the die reaches under so long a load."""
    device = SimulatedDevice(gpu, replace(truth, dropped_reads_fraction=0.0), seed=seed)
    device.prepare(work).run(seconds)
    celsius = device.state().die_celsius
    assert celsius is not None, "no read was dropped"
    return celsius
