"""One case of a check, from bound kernel to result, whatever the kernel does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from moeprof.errors import DeviceLost, DeviceOutOfMemory, KernelUnsupported
from moeprof.kernel.check.compare import compare_captured, compare_launches
from moeprof.kernel.check.verdict import CaseResult
from moeprof.kernel.check.work import not_checkable, on_device
from moeprof.kernel.protocol import choice_of
from moeprof.kernel.reference import MAX_RELATIVE_ERROR

if TYPE_CHECKING:
    from moeprof.device.protocol import Device
    from moeprof.kernel.check.work import CheckedWork
    from moeprof.kernel.protocol import Kernel, L2State
    from moeprof.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Case:
    """A workload to be compared; `routing` names how rows fall on the experts.

    `captured` asks for a CUDA graph as well, where the device is one that has them.
    """

    routing: str
    workload: Workload
    l2_state: L2State = "warm"
    captured: bool = False


def run_case(kernel: Kernel, device: Device, case: Case, *, seed: int) -> CaseResult:
    """Compute one case and compare it; what the kernel raises is the case's fault.

    Raises DeviceLost: nothing can be compared any more.
    """
    start_seconds = device.now()
    result = unrun(case)
    if result.dtype not in MAX_RELATIVE_ERROR:
        known = ", ".join(MAX_RELATIVE_ERROR)
        return replace(result, refusal=f"float64 is compared with {known}, not {result.dtype}")
    try:
        with on_device(device):
            result = _computed(kernel, device, case, result, seed=seed)
    except DeviceLost:
        raise
    except (KernelUnsupported, DeviceOutOfMemory) as error:
        result = replace(result, refusal=error.message)
    except Exception as error:  # noqa: BLE001 - a kernel may fail in any way, and that is a finding
        result = replace(result, fault=error_words(error))
    return replace(result, wall_seconds=device.now() - start_seconds)


def unrun(case: Case) -> CaseResult:
    """Return the result of a case of which nothing is known yet."""
    workload = case.workload
    return CaseResult(
        routing=case.routing,
        dtype=workload.weight_dtype,
        hidden_size=workload.layer.hidden_size,
        expert_size=workload.local_expert_size,
        rows_per_expert=workload.rows_per_expert,
        bound_fraction=MAX_RELATIVE_ERROR.get(workload.weight_dtype, 0.0),
    )


def error_words(error: Exception) -> str:
    """Return an error as one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _computed(
    kernel: Kernel, device: Device, case: Case, result: CaseResult, *, seed: int
) -> CaseResult:
    if (reason := kernel.refusal(case.workload, device.identity)) is not None:
        return replace(result, refusal=reason)
    bound = kernel.bind(case.workload, device, l2_state=case.l2_state, seed=seed)
    result = replace(result, choice=choice_of(bound).kernel)
    if (reason := not_checkable(bound)) is not None:
        return replace(result, refusal=reason)
    work = cast("CheckedWork", bound)
    # An engine whose arithmetic is coarser than the format's says so itself.
    if (declared := getattr(bound, "max_relative_error", None)) is not None:
        result = replace(result, bound_fraction=declared)
    found = compare_launches(work, result.bound_fraction)
    if found.fault is None and case.captured and device.identity.kind == "cuda":
        found = compare_captured(work, device, result.bound_fraction)
    return replace(result, relative_error_fraction=found.relative_error_fraction, fault=found.fault)
