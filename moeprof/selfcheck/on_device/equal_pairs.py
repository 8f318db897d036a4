"""How often two measurements of the same work on a real device are called different."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.analysis.difference import difference
from moeprof.measure.settings import StoppingSettings
from moeprof.measure.timing import measure_latency
from moeprof.selfcheck.finding import Finding, Promise, of_share, skipped

if TYPE_CHECKING:
    from moeprof.record import Interval
    from moeprof.selfcheck.on_device.bench import Bench

NUM_PAIRS = 40
_LEAD_IN_SECONDS = 1.0
_STOPPING = StoppingSettings(relative_half_width_fraction=0.01, seconds_max=1.0)
PROMISE = Promise(
    "aa_false_difference",
    "of pairs of equal measurements at most 5 % are called different",
    high=0.05,
)


def find_false_differences(bench: Bench) -> tuple[Finding, ...]:
    """Measure the same program again and again, and compare each with the one before."""
    with bench.loaded("cold") as program:
        program.run(_LEAD_IN_SECONDS)
        medians: list[Interval] = []
        for _ in range(2 * NUM_PAIRS):
            latency, _ = measure_latency(bench.device, program, _STOPPING, None)
            if latency is not None:
                medians.append(latency.median)
    pairs = list(zip(medians[::2], medians[1::2], strict=False))
    if not pairs:
        return (skipped(PROMISE, "no sample was kept"),)
    num_different = sum(difference(first, second).is_different for first, second in pairs)
    return (of_share(PROMISE, num_different, len(pairs)),)
