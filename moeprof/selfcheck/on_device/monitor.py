"""Whether watching the device slows down what is timed on it."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from scipy.stats import binom

from moeprof.measure.timing import POLL_SECONDS
from moeprof.selfcheck.finding import Finding, Promise, of_interval

if TYPE_CHECKING:
    from moeprof.device.protocol import Device, Program
    from moeprof.selfcheck.on_device.bench import Bench

_NUM_PAIRS = 40
_STRETCHES_PER_SIDE = 5
_LEAD_IN_SECONDS = 1.0
_TAIL = 0.005  # an interval with confidence 0.99
PROMISE = Promise(
    "monitor_effect_fraction",
    "reading every sensor each 20 ms changes latency by at most 0.5 %",
    low=-0.005,
    high=0.005,
)


def find_monitor_effect(bench: Bench) -> tuple[Finding, ...]:
    """Time in pairs with and without readings, in random order; compare medians within pairs."""
    with bench.loaded("cold") as program:
        program.run(_LEAD_IN_SECONDS)
        effects = []
        for _ in range(_NUM_PAIRS):
            order = [True, False] if bench.random.random() < 1 / 2 else [False, True]
            found = {watched: _timed(bench.device, program, watched=watched) for watched in order}
            effects.append(found[True] / found[False] - 1)
    # Between two order statistics: no matter how far a disturbed pair lies out.
    ordered = sorted(effects)
    rank = int(binom.ppf(_TAIL, len(ordered), 1 / 2)) - 1
    bounds = (ordered[rank], ordered[-1 - rank])
    return (of_interval(PROMISE, median(ordered), bounds, len(ordered)),)


def _timed(device: Device, program: Program, *, watched: bool) -> float:
    """Return the median of as many stretches of 20 ms, each after a reading if `watched`."""
    latencies = []
    for _ in range(_STRETCHES_PER_SIDE):
        if watched:
            device.state()
        end_seconds = device.now() + POLL_SECONDS
        while device.now() < end_seconds:
            latencies.append(program.sample())
    return median(latencies)
