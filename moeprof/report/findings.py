"""Findings of an audit as a table, as Markdown, and as one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from moeprof.report import human
from moeprof.selfcheck.finding import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from moeprof.selfcheck.finding import Finding

_STYLES = {
    Verdict.KEPT: "green",
    Verdict.BROKEN: "red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.TOLD: "dim",
    Verdict.SKIPPED: "dim",
}
_NO_ACHIEVED = "-"


def findings_table(findings: Sequence[Finding], *, title: str) -> Table:
    """Return a row per figure: what was promised, what was achieved, in how many trials."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("figure", no_wrap=True)
    table.add_column("promised")
    table.add_column("achieved", justify="right", no_wrap=True)
    table.add_column("trials", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("")
    for each in findings:
        table.add_row(
            each.name,
            each.promise,
            achieved(each),
            str(each.num_trials),
            Text(each.verdict, _STYLES[each.verdict]),
            Text(each.detail or "", "dim"),
        )
    return table


def markdown_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the promises as a table in Markdown, and what stands beside them as another."""
    told = [each for each in findings if each.verdict is Verdict.TOLD]
    yield "| figure | promised | achieved | trials | verdict |"
    yield "|---|---|---|---|---|"
    for each in findings:
        if each.verdict is not Verdict.TOLD:
            cells = (f"`{each.name}`", each.promise, achieved(each), f"{each.num_trials:,}")
            verdict = f"{each.verdict} ({each.detail})" if each.detail else str(each.verdict)
            yield f"| {' | '.join(cells)} | {verdict} |"
    if not told:
        return
    yield ""
    yield "Beside them, with nothing promised:"
    yield ""
    yield "| figure | what it is | found | trials |"
    yield "|---|---|---|---|"
    for each in told:
        cells = (f"`{each.name}`", each.promise, achieved(each), f"{each.num_trials:,}")
        yield f"| {' | '.join(cells)} |"


def findings_document(findings: Sequence[Finding], **about: Any) -> dict[str, Any]:
    """Return the findings by name, after what they are about."""
    by_name = {each.name: asdict(each) for each in findings}
    for each in by_name.values():
        del each["name"]
    return {**about, "findings": by_name}


def achieved(finding: Finding) -> str:
    """Return what was achieved, in the unit that the figure's name ends with."""
    value, name = finding.achieved, finding.name
    if value is None:
        return _NO_ACHIEVED
    if name.startswith("samples_vs_") or "_over_" in name:
        return f"{value:.2f}×"
    shown = next((show for suffix, show in _UNITS.items() if name.endswith(suffix)), _share)
    return shown(value)


def _share(value: float) -> str:
    return human.percent(value, digits=2)


_UNITS: Final[dict[str, Callable[[float], str]]] = {
    "_seconds": human.seconds,
    "_fraction_per_celsius": lambda value: f"{100 * value:.3f} %/°C",
    "_celsius": lambda value: f"{value:.2f} °C",
    "_celsius_per_minute": lambda value: f"{value:.2f} °C/min",
}
