"""Every expert kernel, with the dtypes that it runs here, or why it does not."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from moeprof.device.registry import open_device
from moeprof.errors import ExitCode
from moeprof.kernel.capabilities import kernel_capabilities
from moeprof.report.consoles import console_on, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moeprof.kernel.capabilities import KernelCapability


def show_list(selector: str, *, as_json: bool) -> ExitCode:
    """Print what every kernel does on a device; DONE, whatever runs. Raises DeviceUnavailable."""
    device = open_device(selector, seed=0)
    try:
        identity = device.identity
        found = kernel_capabilities(identity)
    finally:
        device.close()
    if as_json:
        kernels = [{"runs": bool(each.dtypes), **asdict(each)} for each in found]
        print_json({"device": asdict(identity), "kernels": kernels})
    else:
        console = console_on(sys.stdout)
        console.print(list_table(found, title=f"expert kernels on {identity.name}"))
    return ExitCode.DONE


def list_table(found: Iterable[KernelCapability], *, title: str) -> Table:
    """Return a row per kernel: its dtypes or the reason, and the libraries' versions."""
    table = Table(title=title, title_justify="left")
    table.add_column("kernel", no_wrap=True)
    table.add_column("runs here")
    table.add_column("why not")
    table.add_column("versions")
    for each in found:
        runs = Text(", ".join(each.dtypes), "green") if each.dtypes else Text("no", "yellow")
        versions = ", ".join(f"{name} {version}" for name, version in each.versions.items())
        table.add_row(each.name, runs, Text(each.reason or ""), Text(versions))
    return table
