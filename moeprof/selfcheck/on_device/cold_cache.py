"""Whether cold rows are cold: work that would fit into the cache is not found there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.measure.settings import StoppingSettings
from moeprof.measure.timing import measure_latency
from moeprof.selfcheck.finding import Finding, Promise, Verdict, of_interval, of_number, skipped
from moeprof.selfcheck.on_device.bench import cached_workload

if TYPE_CHECKING:
    from moeprof.kernel.protocol import L2State
    from moeprof.record import Interval
    from moeprof.selfcheck.on_device.bench import Bench

_STOPPING = StoppingSettings(relative_half_width_fraction=0.005, confidence=0.99, seconds_max=10.0)
_LEAD_IN_SECONDS = 1.0
_TELLING_FRACTION = 0.3  # of memory's speed: below it, what the cache saves drowns
RATIO = Promise(
    "cold_over_warm",
    "work that fits into the cache takes at least 1.02 times as long cold as warm",
    low=1.02,
)
BANDWIDTH = Promise(
    "cold_bandwidth_fraction",
    "cold weights come no faster than memory can deliver them",
    high=1.0,
)


def find_cold_cache(bench: Bench) -> tuple[Finding, ...]:
    """Time the same work with rotating and with resident weights, and hold it against memory."""
    cold, warm = (_timed(bench, l2_state) for l2_state in ("cold", "warm"))
    if cold is None or warm is None:
        return tuple(skipped(promise, "no sample was kept") for promise in (RATIO, BANDWIDTH))
    bounds = (cold.low / warm.high, cold.high / warm.low)
    slower = of_interval(RATIO, cold.estimate / warm.estimate, bounds, 2)
    ceilings = bench.device.ceilings("bf16")
    if ceilings is None:
        return slower, skipped(BANDWIDTH, "the memory's speed is not known")
    num_bytes = cached_workload(bench.device.l2_bytes).weight_bytes
    share = num_bytes / cold.estimate / ceilings.bytes_per_second
    if slower.verdict is not Verdict.KEPT and share < _TELLING_FRACTION:
        reason = f"the kernel reads at {100 * share:.0f} % of memory's speed: too slowly to tell"
        slower = skipped(RATIO, reason)
    detail = f"of {ceilings.bytes_per_second / 1e9:.0f} GB/s ({ceilings.source})"
    return slower, of_number(BANDWIDTH, share, 1, detail=detail)


def _timed(bench: Bench, l2_state: L2State) -> Interval | None:
    with bench.loaded(l2_state) as program:
        program.run(_LEAD_IN_SECONDS)
        latency, _ = measure_latency(bench.device, program, _STOPPING, None)
    return None if latency is None else latency.median
