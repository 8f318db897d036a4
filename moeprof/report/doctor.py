"""What can be measured on this machine, as a table with a remedy for everything that cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moeprof.device.capabilities import Capability


def doctor_table(capabilities: Iterable[Capability]) -> Table:
    """Return a row per capability: yes or no, what was found, and what to do about it."""
    table = Table(title="what can be measured on this machine", title_justify="left")
    table.add_column("capability", no_wrap=True)
    table.add_column("")
    table.add_column("found")
    table.add_column("remedy")
    for each in capabilities:
        verdict = Text("yes", "green") if each.available else Text("no", "yellow")
        table.add_row(each.name, verdict, Text(each.detail), Text(each.remedy or ""))
    return table
