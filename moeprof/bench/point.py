"""One point of a bench: all kernels bound to one workload, sampled in turns and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.bench.ceiling import READ_ONLY, SessionCeiling
from moeprof.bench.contestants import assemble, out_row
from moeprof.bench.intervals import comparisons, inverse, median_interval, paired_ratio, scaled
from moeprof.bench.result import (
    POSSIBLE_FRACTION,
    BenchPoint,
    BenchRow,
    Ceiling,
    RowStatus,
    touched_bytes,
)
from moeprof.bench.rounds import take_rounds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from moeprof.bench.contestants import Check, Contestant
    from moeprof.bench.request import BenchRequest
    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Kernel
    from moeprof.record import Interval
    from moeprof.workload.workload import Workload

# At one point, beyond the rounds that an interval needs: slow kernels must not eat the session.
_POINT_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Session:
    """What all points of a bench share."""

    device: Device
    kernels: Mapping[str, Kernel]
    ceiling: SessionCeiling
    request: BenchRequest
    check: Check | None
    random: np.random.Generator


def measure_point(session: Session, workload: Workload, *, end_seconds: float) -> BenchPoint:
    """Time all kernels; none is begun another round of after `end_seconds` of the device's time.

    Raises:
        DeviceLost: the device is gone.

    """
    device, request, ceiling = session.device, session.request, session.ceiling
    found = None if ceiling.program else ceiling.without_kernel(workload.weight_dtype)
    field = assemble(
        session.kernels,
        workload,
        device,
        l2_state=request.l2_state,
        seed=request.seed,
        check=session.check,
    )
    programs = {name: each.program for name, each in field.ready.items()}
    if programs and ceiling.program is not None:
        programs[READ_ONLY] = ceiling.program
    try:
        taken = take_rounds(
            programs,
            rounds=request.rounds,
            random=session.random,
            now=device.now,
            end_seconds=min(end_seconds, device.now() + _POINT_SECONDS_MAX),
        )
        state = device.state()
    finally:
        field.close()
    reads = taken.samples.pop(READ_ONLY, None)
    if reads:
        found = ceiling.from_samples(reads)
    rows = {row.kernel: row for row in field.out}
    rows |= {name: out_row(name, error) for name, error in taken.broken.items()}
    for name, samples in taken.samples.items():
        latency = median_interval(samples)
        fraction = None
        if found is not None:
            fraction = _fraction(samples, reads, ceiling.launch_bytes, workload, found)
        rows[name] = _row(name, field.ready[name], samples, latency, fraction, workload)
    return BenchPoint(
        workload=workload,
        ceiling=found,
        rows=tuple(rows[name] for name in session.kernels),
        comparisons=comparisons(taken.samples),
        die_celsius=state.die_celsius,
        sm_clock_hertz=state.sm_clock_hertz,
    )


def _fraction(
    samples: Sequence[float],
    reads: Sequence[float] | None,
    launch_bytes: int | None,
    workload: Workload,
    ceiling: Ceiling,
) -> Interval:
    """Return the kernel's bandwidth over the ceiling's, from pairs of samples where there are."""
    num_bytes = touched_bytes(workload)
    if reads and launch_bytes:
        return scaled(paired_ratio(reads, samples), num_bytes / launch_bytes)
    return inverse(median_interval(samples), num_bytes / ceiling.bytes_per_second)


def _row(
    name: str,
    contestant: Contestant,
    samples: Sequence[float],
    latency: Interval,
    fraction: Interval | None,
    workload: Workload,
) -> BenchRow:
    status, detail = RowStatus.OK, None
    # What is read from a warm cache has no such ceiling.
    if contestant.l2_state == "cold" and fraction and fraction.estimate > POSSIBLE_FRACTION:
        status = RowStatus.IMPOSSIBLE
        detail = f"{fraction.estimate:.1%} of the ceiling: cold data cannot be read so fast"
    return BenchRow(
        kernel=name,
        status=status,
        detail=detail,
        latency=latency,
        bytes_per_second=touched_bytes(workload) / latency.estimate,
        bandwidth_fraction=fraction,
        l2_state=contestant.l2_state,
        choice=contestant.choice,
        samples=tuple(samples),
    )
