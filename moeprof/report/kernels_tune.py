"""What `moeprof kernels tune` shows: variants timed, and the table of the fastest written."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from rich.table import Table

from moeprof import __version__
from moeprof.bench.tune import tunable, tune, variants_named
from moeprof.device.registry import open_device
from moeprof.errors import ExitCode, StoppedAtOnce
from moeprof.kernel.cuda.tuned import VARIABLE, TunedTable, load_table, save_table, user_path
from moeprof.report import human
from moeprof.report.consoles import console_on, print_json
from moeprof.report.interrupts import interrupt_on_term
from moeprof.report.kernels_bench import telling

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.bench.request import BenchRequest
    from moeprof.bench.tune import Tuning


def show_tune(request: BenchRequest, *, out: Path | None, as_json: bool) -> ExitCode:
    """Time every variant of moeprof's CUDA kernels, and put the fastest into a table.

    `request.kernels` names variants; none: all. The table is `out`, or else the user's; entries of
    other shapes that are there stay.

    Raises:
        DeviceUnavailable: there is no such device.
        KernelUnsupported: moeprof's CUDA kernels do not run on it.
        InputError: the table cannot be read or written.
        WorkloadError: the pattern is impossible for a layer.
        StoppedAtOnce: the user has stopped it; no table was written.

    """
    path = out or user_path()
    table = load_table(path) if path.exists() else TunedTable((), path.name)
    try:
        with interrupt_on_term():
            device = open_device(request.device, seed=request.seed)
            try:
                architecture, kernels = tunable(device)
                tuning = tune(
                    replace(request, kernels=()),
                    device,
                    architecture=architecture,
                    kernels=variants_named(kernels, request.kernels),
                    on_progress=telling(console_on(sys.stderr), None),
                )
            finally:
                device.close()
    except KeyboardInterrupt as order:
        raise StoppedAtOnce("interrupted: no table was written", hint="Run it anew.") from order
    note = {"device": tuning.report.device.name, **tuning.report.versions, "moeprof": __version__}
    save_table(table.with_entries(tuning.entries), path, note=note)
    lost = tuning.report.lost
    if as_json:
        entries = [asdict(entry) for entry in tuning.entries]
        print_json({"path": str(path), "lost": lost, "wrong": tuning.wrong, "entries": entries})
    else:
        _print(tuning, path, is_found=out is None)
    return ExitCode.DEVICE if lost is not None else ExitCode.DONE


def _print(tuning: Tuning, path: Path, *, is_found: bool) -> None:
    console = console_on(sys.stdout)
    table = Table(title=f"fastest on {tuning.architecture}", title_justify="left")
    for column in ("dtype", "hidden", "expert", "experts", "tokens", "latency"):
        table.add_column(column, justify="right")
    table.add_column("variant")
    for entry in tuning.entries:
        shape = entry.shape
        table.add_row(
            shape.dtype,
            *(str(n) for n in (shape.hidden_size, shape.expert_size, shape.num_experts)),
            str(shape.num_tokens),
            human.seconds(entry.latency_seconds),
            entry.variant,
        )
    console.print(table)
    for variant, fault in tuning.wrong.items():
        console.print(f"{variant} is wrong: {fault}", soft_wrap=True)
    if tuning.report.lost is not None:
        console.print(f"the device was lost: {tuning.report.lost}", soft_wrap=True)
    if tuning.report.left_out:
        console.print(f"{len(tuning.report.left_out)} points were left out: the time was spent")
    console.print(f"written: {path}", soft_wrap=True)
    if not is_found:
        console.print(f"to use it: {VARIABLE}={path}", soft_wrap=True)
