"""Tuning: every variant of the CUDA kernels timed at every point, the fastest right one kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from moeprof.bench.contestants import float64_check
from moeprof.bench.request import CATALOGUE_MODELS, layers_named
from moeprof.bench.result import RowStatus
from moeprof.bench.run import run_bench
from moeprof.errors import KernelUnsupported, UsageError
from moeprof.kernel.cuda.tuned import TunedEntry, TunedShape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moeprof.bench.contestants import Check
    from moeprof.bench.request import BenchRequest
    from moeprof.bench.result import BenchPoint, BenchReport, BenchRow
    from moeprof.bench.run import BenchProgress
    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Kernel
    from moeprof.workload.workload import Workload

_KERNELS_MODULE: Final = "moeprof.kernel.cuda.expert_kernels"
# A variant is chosen, not reported: intervals need less than for a bench.
_ROUNDS: Final = 12
# Batches beyond those of a bench, up to where rows stop being few.
_BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Tuning:
    """The fastest variants, and the bench that found them, with the variants as its kernels.

    `wrong` says what is wrong with variants that would have won.
    """

    architecture: str
    entries: tuple[TunedEntry, ...]
    wrong: dict[str, str]
    report: BenchReport


def tunable(device: Device) -> tuple[str, dict[str, Kernel]]:
    """Return the device's architecture, and a kernel for every variant that is built for it.

    Raises:
        KernelUnsupported: moeprof's CUDA kernels do not run here; the message says why.

    """
    identity = device.identity
    if identity.kind != "cuda":
        raise KernelUnsupported(
            f"moeprof's CUDA kernels run on NVIDIA GPUs, and {identity.name} is {identity.kind}: "
            "there is nothing to tune",
            hint="Choose --device cuda:0 on a machine with a GPU.",
        )
    kernels: Any = import_module(_KERNELS_MODULE)
    architecture, found = kernels.variant_kernels(identity)
    return architecture, dict(found)


def variants_named(kernels: Mapping[str, Kernel], names: Sequence[str]) -> dict[str, Kernel]:
    """Return the variants that are named, all where none is.

    Raises:
        UsageError: there is no such variant.

    """
    for name in names:
        if name not in kernels:
            near = get_close_matches(name, kernels) or sorted(kernels)
            raise UsageError(
                f"{name!r} is no variant; did you mean {' or '.join(near)}?",
                hint="`moeprof kernels inspect` lists them.",
            )
    return {name: kernels[name] for name in names or kernels}


def tune(
    request: BenchRequest,
    device: Device,
    *,
    architecture: str,
    kernels: Mapping[str, Kernel],
    check: Check | None = float64_check,
    on_progress: BenchProgress | None = None,
) -> Tuning:
    """Time all variants, a kernel each by the variant's name, at every point.

    Raises WorkloadError where the pattern is impossible for a layer.
    """
    asked = replace(
        request,
        layers=request.layers or layers_named(CATALOGUE_MODELS),
        batch_sizes=request.batch_sizes or _BATCH_SIZES,
        rounds=min(request.rounds, _ROUNDS),
    )
    report = run_bench(asked, device, kernels=kernels, check=None, on_progress=on_progress)
    entries: list[TunedEntry] = []
    wrong: dict[str, str] = {}
    for point in report.points:
        row = _fastest(point, device, kernels, check, wrong) if report.lost is None else None
        if row is not None and row.latency is not None:
            shape = shape_of(point.workload, architecture)
            entries.append(TunedEntry(shape, row.kernel, row.latency.estimate))
    return Tuning(architecture, tuple(entries), wrong, report)


def shape_of(workload: Workload, architecture: str) -> TunedShape:
    """Return what a workload's variant is looked up by."""
    return TunedShape(
        architecture=architecture,
        dtype=workload.weight_dtype,
        hidden_size=workload.layer.hidden_size,
        expert_size=workload.local_expert_size,
        num_experts=workload.num_local_experts,
        num_tokens=workload.batch_size,
    )


def _fastest(
    point: BenchPoint,
    device: Device,
    kernels: Mapping[str, Kernel],
    check: Check | None,
    wrong: dict[str, str],
) -> BenchRow | None:
    """Return the row of the fastest variant that is right; those found wrong are noted.

    Only what would win is checked: a check takes longer than the timing.
    """
    timed = [row for row in point.rows if row.status is RowStatus.OK and row.latency is not None]
    for row in sorted(timed, key=lambda row: row.latency.estimate if row.latency else 0.0):
        if check is None:
            return row
        kernel = kernels[row.kernel]
        fault = check(kernel, device, point.workload, choice=row.choice)
        if fault is None:
            return row
        wrong[row.kernel] = fault
    return None
