"""Expert kernels compared with float64, as a table with every fault spelled out."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from moeprof.device.registry import open_device
from moeprof.errors import DeviceUnavailable, ExitCode, UsageError
from moeprof.kernel.check import attention
from moeprof.kernel.check.kernel import CHECKED_DTYPES, check_kernel
from moeprof.kernel.check.verdict import verdict_of
from moeprof.kernel.registry import AUTO, check_name, kernel_names, loaded_or_absent
from moeprof.report import human
from moeprof.report.consoles import console_on, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

    from moeprof.device.protocol import Device
    from moeprof.kernel.check.verdict import KernelVerdict


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Which kernels to compare in which dtypes; an empty tuple: all, and the attention pair."""

    kernels: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    device: str = "auto"
    seed: int = 0
    thorough: bool = False


def show_check(request: CheckRequest, *, as_json: bool) -> ExitCode:
    """Compare kernels with float64 and print what was found.

    DONE where all that ran is right, GATE_FAILED where something is wrong, DEVICE where nothing
    ran.

    Raises UsageError, WorkloadError, DeviceUnavailable.
    """
    _refuse(request)
    device = open_device(request.device, seed=request.seed)
    try:
        if device.identity.simulated:
            raise DeviceUnavailable(
                f"{device.identity.name} computes nothing that could be checked",
                hint="Choose --device cpu or cuda:N.",
            )
        verdicts = tuple(_verdicts(request, device, console_on(sys.stderr)))
        identity = device.identity
    finally:
        device.close()
    if as_json:
        documents = [_document(each) for each in verdicts]
        print_json({"device": asdict(identity), "seed": request.seed, "kernels": documents})
    else:
        console = console_on(sys.stdout)
        console.print(check_table(verdicts, title=f"kernels beside float64 on {identity.name}"))
        for verdict in verdicts:
            for line in fault_lines(verdict):
                console.print(line, soft_wrap=True)
    if any(verdict.fault is not None for verdict in verdicts):
        return ExitCode.GATE_FAILED
    ran = any(verdict.passed for verdict in verdicts)
    return ExitCode.DONE if ran else ExitCode.DEVICE


def check_table(verdicts: Iterable[KernelVerdict], *, title: str) -> Table:
    """Return a row for each dtype of each kernel that ran, and one for each kernel that did not."""
    table = Table(title=title, title_justify="left")
    table.add_column("kernel", no_wrap=True)
    table.add_column("dtype", no_wrap=True)
    for name in ("cases", "worst error", "may be", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for verdict in verdicts:
        if verdict.refused is not None:
            table.add_row(verdict.kernel, *[human.ABSENT] * 5, Text(f"refused: {verdict.refused}"))
            continue
        for dtype in dict.fromkeys(case.dtype for case in verdict.compared):
            part = verdict_of(
                verdict.kernel, tuple(case for case in verdict.compared if case.dtype == dtype)
            )
            table.add_row(*_cells(part, dtype))
    return table


def fault_lines(verdict: KernelVerdict) -> Iterator[str]:
    """Yield a line for every case that is wrong."""
    for case in verdict.cases:
        if case.fault is not None:
            yield f"{verdict.kernel}: {case.fault} ({case.where}; rows {case.rows_per_expert})"


def _refuse(request: CheckRequest) -> None:
    for name in request.kernels:
        if name == AUTO:
            raise UsageError(
                "auto computes nothing by itself, and checks what it chooses from",
                hint="Name the kernels to check, or none for all.",
            )
        if name != attention.NAME:
            check_name(name)
    for dtype in request.dtypes:
        if dtype not in CHECKED_DTYPES:
            raise UsageError(f"--dtype must be one of {', '.join(CHECKED_DTYPES)}, got {dtype!r}")


def _verdicts(request: CheckRequest, device: Device, progress: Console) -> Iterator[KernelVerdict]:
    names: Sequence[str] = request.kernels or (*kernel_names(), attention.NAME)
    for name in names:
        progress.print(f"checking {name}")
        if name == attention.NAME:
            yield attention.check_attention(device, seed=request.seed)
            continue
        yield check_kernel(
            loaded_or_absent(name),
            device,
            dtypes=request.dtypes or CHECKED_DTYPES,
            seed=request.seed,
            thorough=request.thorough,
        )


def _cells(verdict: KernelVerdict, dtype: str) -> tuple[str | Text, ...]:
    worst = verdict.worst
    seconds = sum(case.wall_seconds for case in verdict.cases)
    num_wrong = sum(case.fault is not None for case in verdict.cases)
    right = Text("right", "green")
    return (
        verdict.kernel,
        dtype,
        str(len(verdict.cases)),
        human.ABSENT if worst is None else f"{worst.relative_error_fraction:.1e}",
        f"{verdict.cases[0].bound_fraction:.1e}",
        human.seconds(seconds),
        right if not num_wrong else Text(f"wrong in {num_wrong} of {len(verdict.cases)}", "red"),
    )


def _document(verdict: KernelVerdict) -> dict[str, Any]:
    return {
        "kernel": verdict.kernel,
        "passed": verdict.passed,
        "refused": verdict.refused,
        "fault": verdict.fault,
        "cases": [asdict(case) for case in verdict.cases],
    }
