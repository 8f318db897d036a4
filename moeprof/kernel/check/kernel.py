"""The whole check of one kernel: every routing, layer and dtype, against float64."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

from moeprof.errors import DeviceLost
from moeprof.kernel.check.case import run_case, unrun
from moeprof.kernel.check.routings import cases
from moeprof.kernel.check.verdict import verdict_of
from moeprof.kernel.check.work import SmallCache
from moeprof.kernel.reference import MAX_RELATIVE_ERROR
from moeprof.kernel.rotation import CACHE_MULTIPLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moeprof.device.protocol import Device
    from moeprof.kernel.check.verdict import CaseResult, KernelVerdict
    from moeprof.kernel.protocol import Kernel

CHECKED_DTYPES: Final = tuple(MAX_RELATIVE_ERROR)
_NUM_SETS: Final = 2


def check_kernel(
    kernel: Kernel,
    device: Device,
    *,
    dtypes: Sequence[str] = CHECKED_DTYPES,
    seed: int = 0,
    thorough: bool = False,
    told: Callable[[CaseResult], None] | None = None,
) -> KernelVerdict:
    """Compare a kernel with float64 and return what was found; nothing that it does is raised.

    `told` hears of every case as it ends. A lost device is the fault of the case that ran, and
    ends the check: no case after it could mean anything.
    """
    found: list[CaseResult] = []
    for dtype in dtypes:
        for case in cases(dtype, kind=device.identity.kind, seed=seed, thorough=thorough):
            cold_bytes = _NUM_SETS * case.workload.weight_bytes
            small = cast("Device", SmallCache(device, cold_bytes // CACHE_MULTIPLE))
            try:
                result = run_case(kernel, small, case, seed=seed)
            except DeviceLost as error:
                result = replace(unrun(case), fault=error.message)
                return verdict_of(kernel.name, (*found, result))
            found.append(result)
            if told is not None:
                told(result)
    return verdict_of(kernel.name, tuple(found))
