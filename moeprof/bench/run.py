"""The bench: point by point, all kernels bound at once and sampled in turns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from moeprof import __version__
from moeprof.bench.ceiling import SessionCeiling, open_ceiling
from moeprof.bench.contestants import float64_check, open_kernels, versions_of
from moeprof.bench.point import Session, measure_point
from moeprof.bench.request import kernels_of, workloads_of
from moeprof.bench.result import BenchPoint, BenchReport
from moeprof.errors import DeviceLost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.bench.contestants import Check
    from moeprof.bench.request import BenchRequest
    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Kernel
    from moeprof.workload.workload import Workload


class BenchProgress(Protocol):
    """Hears before and after every point."""

    def __call__(
        self, report: BenchReport, workload: Workload | None, point: BenchPoint | None
    ) -> None:
        """Take what is done so far, and the workload that begins or the point that has ended."""


def run_bench(
    request: BenchRequest,
    device: Device,
    *,
    kernels: Mapping[str, Kernel] | None = None,
    check: Check | None = float64_check,
    on_progress: BenchProgress | None = None,
) -> BenchReport:
    """Time every kernel at every point; `kernels` replaces those of the registry.

    What fails is a row; where the device is lost, the report says so and has what came before.

    Raises:
        WorkloadError: a kernel is not known, or the pattern is impossible for a layer.

    """
    workloads = workloads_of(request, device.identity)
    if kernels is None:
        kernels = open_kernels(kernels_of(request, device.identity), device)
    own = {"moeprof": __version__, **device.identity.versions}
    versions = own | versions_of(kernels.values())
    start_seconds = device.now()
    allowed_seconds = math.inf if request.seconds_max is None else request.seconds_max
    end_seconds = start_seconds + allowed_seconds
    points: list[BenchPoint] = []
    lost: str | None = None
    ceiling: SessionCeiling | None = None

    def report() -> BenchReport:
        wall_seconds = device.now() - start_seconds
        left_out = workloads[len(points) :]
        return BenchReport(
            device=device.identity,
            points=tuple(points),
            left_out=left_out,
            wall_seconds=wall_seconds,
            versions=versions,
            lost=lost,
            no_ceiling_reason=None if ceiling is None else ceiling.absent_reason,
        )

    try:
        ceiling = open_ceiling(device)
        random = np.random.default_rng([request.seed, 0xBE7C])
        session = Session(device, kernels, ceiling, request, check, random)
        for workload in workloads:
            if device.now() >= end_seconds:
                break
            if on_progress is not None:
                on_progress(report(), workload, None)
            points.append(measure_point(session, workload, end_seconds=end_seconds))
            if on_progress is not None:
                on_progress(report(), None, points[-1])
        ceiling.close()
    except DeviceLost as error:
        lost = error.message
    return report()
