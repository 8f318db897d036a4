"""Whether two measurements of one program on one device are called different."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moeprof.analysis.difference import difference
from moeprof.device.sim.device import SimulatedDevice
from moeprof.measure.settings import StoppingSettings
from moeprof.measure.timing import measure_latency
from moeprof.selfcheck.check import Check
from moeprof.selfcheck.draw import drawn_truth, log_between
from moeprof.selfcheck.finding import Promise, of_share, told
from moeprof.selfcheck.stopping import TARGETS_FRACTION
from moeprof.selfcheck.work import decode_work

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from moeprof.device.sim.program import SimulatedProgram
    from moeprof.hardware.gpu import GPU
    from moeprof.record import Interval
    from moeprof.selfcheck.finding import Finding

_LAUNCH_SECONDS = (10e-6, 10e-3)
_WARM_UP_SECONDS = 300.0
_SLOWER_FRACTION = 0.02
_SEEN = "ab_seen_difference"

FALSE_DIFFERENCE = Promise(
    "aa_false_difference",
    "two measurements of the same work on the same device are called different in at most 5 %",
    high=0.05,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Whether two equal measurements were called different, and one of work 2 % slower."""

    is_different: bool
    is_slower_seen: bool


def measured_pair(gpu: GPU, random: np.random.Generator) -> Pair:
    """Measure the same work twice on one warm drawn device; the precision asked is drawn as well.

    Work that is slower by a factor has just the interval of the second one times that factor.
    """
    truth = drawn_truth(gpu, random)
    device = SimulatedDevice(gpu, truth, seed=int(random.integers(2**32)))
    program = device.prepare(decode_work(truth, log_between(random, _LAUNCH_SECONDS)))
    program.run(_WARM_UP_SECONDS)
    settings = StoppingSettings(relative_half_width_fraction=log_between(random, TARGETS_FRACTION))
    first, second = (_median(device, program, settings) for _ in range(2))
    return Pair(
        difference(first, second).is_different,
        difference(first, _slower(second)).is_different,
    )


def _median(
    device: SimulatedDevice, program: SimulatedProgram, settings: StoppingSettings
) -> Interval:
    latency, _ = measure_latency(device, program, settings, None)
    assert latency is not None, "samples are rejected only where a temperature is held"
    return latency.median


def _slower(interval: Interval) -> Interval:
    factor = 1 + _SLOWER_FRACTION
    return replace(
        interval,
        estimate=factor * interval.estimate,
        low=factor * interval.low,
        high=factor * interval.high,
    )


def judged_pairs(pairs: Sequence[Pair]) -> tuple[Finding, ...]:
    """Judge the false differences, and tell how many true ones of 2 % were seen."""
    num_pairs = len(pairs)
    num_seen = sum(pair.is_slower_seen for pair in pairs)
    words = "of work 2 % slower, the share that is called different"
    return (
        of_share(FALSE_DIFFERENCE, sum(pair.is_different for pair in pairs), num_pairs),
        told(_SEEN, words, num_seen / num_pairs if num_pairs else None, num_pairs),
    )


CHECKS: tuple[Check, ...] = (
    Check(
        name="equal_pairs",
        figures=(FALSE_DIFFERENCE.name, _SEEN),
        num_trials=1000,
        trial=measured_pair,
        judge=judged_pairs,
    ),
)
