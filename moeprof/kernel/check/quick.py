"""The check before a measurement: the workload's own layer and dtype, with few rows, once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from moeprof.kernel.check.case import Case, run_case
from moeprof.kernel.check.verdict import KernelVerdict, verdict_of
from moeprof.kernel.protocol import NO_CHOICE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moeprof.device.protocol import Device
    from moeprof.kernel.protocol import Choice, Kernel
    from moeprof.workload.workload import Workload

_SEED: Final = 7
_HOT_ROWS: Final = 40  # more than a tile of the kernels for few rows
_LAST_ROWS: Final = 2
# A GPU compares all experts in a fraction of a second; a CPU takes a tenth of one for an expert of
# 10^7 weights.
_CPU_EXPERTS: Final = 2
_CPU_ROWS: Final = 4
_CPU_WEIGHTS_OF_ONE_CASE: Final = 2**26
_GPU_ROWS: Final = 256  # of an expert: float64 rows take four times the memory
_FLOAT64_BYTES: Final = 8
# An expert's weights in float64 and what the comparison makes of them beside.
_WORKING_COPIES: Final = 3

_Key = tuple[object, ...]
_VERDICTS: dict[_Key, KernelVerdict] = {}


def quick_check(
    kernel: Kernel, device: Device, workload: Workload, *, choice: Choice = NO_CHOICE
) -> KernelVerdict:
    """Compare a kernel with float64 in the workload's own sizes; what was found is remembered.

    `choice` is what the kernel chose for the workload: another inner kernel is another check.
    The workload's number of experts stays, of which few have rows: the last one lies where
    offsets are largest.

    Raises DeviceLost.
    """
    layer = workload.layer
    key: _Key = (
        device.identity.uuid,
        kernel.name,
        choice,
        workload.weight_dtype,
        (layer.hidden_size, workload.local_expert_size, layer.top_k),
        (workload.num_local_experts, workload.tp_size),
    )
    if (found := _VERDICTS.get(key)) is None:
        found = _checked(kernel, device, workload)
        _VERDICTS[key] = found
    return found


def forget_checks() -> None:
    """Forget what was found, so that kernels are checked anew."""
    _VERDICTS.clear()


def _checked(kernel: Kernel, device: Device, workload: Workload) -> KernelVerdict:
    weights = 3 * workload.layer.hidden_size * workload.local_expert_size
    needed_bytes = _WORKING_COPIES * _FLOAT64_BYTES * weights
    if (free_bytes := device.free_bytes()) < needed_bytes:
        reason = f"float64 needs {needed_bytes} bytes, and {free_bytes} are free"
        return KernelVerdict(kernel.name, (), refused=reason)
    cases = _cpu_cases(workload, weights) if device.identity.kind == "cpu" else _cases(workload)
    return verdict_of(
        kernel.name, tuple(run_case(kernel, device, case, seed=_SEED) for case in cases)
    )


def _cases(workload: Workload) -> Iterator[Case]:
    rows = tuple(min(rows, _GPU_ROWS) for rows in workload.rows_per_expert)
    yield Case("as asked", replace(workload, rows_per_expert=rows), "cold")
    yield from _tricky(workload)


def _cpu_cases(workload: Workload, weights: int) -> Iterator[Case]:
    rows = workload.rows_per_expert
    fullest = sorted(range(len(rows)), key=rows.__getitem__, reverse=True)[:_CPU_EXPERTS]
    if weights * len(fullest) > _CPU_WEIGHTS_OF_ONE_CASE:
        del fullest[1:]
    few = {expert: min(rows[expert], _CPU_ROWS) for expert in fullest}
    yield Case("as asked, few rows", _with_rows(workload, few), "warm")
    yield from _tricky(workload)


def _tricky(workload: Workload) -> Iterator[Case]:
    last = workload.num_local_experts - 1
    yield Case("all on the last", _with_rows(workload, {last: _LAST_ROWS}), "cold")
    yield Case("hot", _with_rows(workload, {last // 2: _HOT_ROWS}), "warm")


def _with_rows(workload: Workload, rows: dict[int, int]) -> Workload:
    counts = tuple(rows.get(expert, 0) for expert in range(workload.num_local_experts))
    return replace(workload, rows_per_expert=counts)
