"""What an imported run holds, counted instead of listed, because such tables are long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from rich.table import Table

from moeprof.record import Source, Status
from moeprof.report import human

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from moeprof.dataset.run import RunRecord

_NUM_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ImportedSummary:
    """One imported run: rows by what they were measured with, and the ranges of what was measured.

    Counts by name are in falling order; refusals are by reason. The least and the most are None
    where no row has a value.
    """

    run_id: str
    file: str | None
    licence: str | None
    num_rows: int
    num_refused: int
    num_reconstructed: int
    num_with_power: int
    num_with_energy: int
    batch_size_min: int | None
    batch_size_max: int | None
    latency_seconds_min: float | None
    latency_seconds_max: float | None
    device_names: dict[str, int]
    engines: dict[str, int]
    kernels: dict[str, int]
    weight_dtypes: dict[str, int]
    routing_patterns: dict[str, int]
    refusals: dict[str, int]


def is_imported(table: pa.Table) -> bool:
    """Whether all rows of a run were measured by somebody else; False: there is no row."""
    sources: list[str] = table["source"].unique().to_pylist()
    return sources == [Source.IMPORTED.value]


def imported_summary(table: pa.Table, run: RunRecord) -> ImportedSummary:
    """Return the summary of a run's measurements; `table` has its rows."""
    origin: Mapping[str, Any] = run.notes.get("import", {})
    tokens = pc.min_max(table["batch_size"]).as_py()
    latency = pc.min_max(table["latency_seconds"]).as_py()
    refused = pc.not_equal(table["status"], Status.OK.value)
    named = pc.binary_join_element_wise(
        table["engine"],
        table["engine_version"],
        " ",
        null_handling="replace",
        null_replacement="unknown",
    )
    return ImportedSummary(
        run_id=run.run_id,
        file=origin.get("file"),
        licence=origin.get("licence"),
        num_rows=table.num_rows,
        num_refused=pc.sum(refused).as_py() or 0,
        num_reconstructed=pc.sum(table["rows_reconstructed"]).as_py() or 0,
        num_with_power=table.num_rows - table["average_watts"].null_count,
        num_with_energy=table.num_rows - table["energy_joules"].null_count,
        batch_size_min=tokens["min"],
        batch_size_max=tokens["max"],
        latency_seconds_min=latency["min"],
        latency_seconds_max=latency["max"],
        device_names=_counted(table["device_name"]),
        engines=_counted(named),
        kernels=_counted(table["kernel"]),
        weight_dtypes=_counted(table["weight_dtype"]),
        routing_patterns=_counted(table["routing_pattern"]),
        refusals=_counted(table["status_detail"].filter(refused)),
    )


def summary_table(summary: ImportedSummary) -> Table:
    """Return a summary as a table of a few lines per kind of fact."""
    table = Table(title=f"{summary.file or 'imported'}  ·  IMPORTED", title_justify="left")
    table.title_style = "bold"
    table.add_column("")
    table.add_column("which", overflow="fold")
    table.add_column("rows", justify="right")
    all_rows = f"{summary.num_rows:,}"
    tokens = _range(_whole(summary.batch_size_min), _whole(summary.batch_size_max))
    times = _range(
        human.seconds(summary.latency_seconds_min), human.seconds(summary.latency_seconds_max)
    )
    for title, counts in (
        ("device", summary.device_names),
        ("engine", summary.engines),
        ("kernel", summary.kernels),
        ("weights", summary.weight_dtypes),
        ("routing", summary.routing_patterns),
    ):
        for number, (name, count) in enumerate(_shown(counts)):
            table.add_row("" if number else title, name, f"{count:,}")
    table.add_row("tokens", tokens, all_rows)
    table.add_row("latency", times, f"{summary.num_rows - summary.num_refused:,}")
    table.add_row("row counts", "reconstructed from the pattern", f"{summary.num_reconstructed:,}")
    table.add_row("power", "yes" if summary.num_with_power else "no", f"{summary.num_with_power:,}")
    for number, (name, count) in enumerate(_shown(summary.refusals)):
        table.add_row("" if number else "refused", name, f"{count:,}")
    return table


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    counts = [
        (each["values"] or "unknown", each["counts"]) for each in column.value_counts().to_pylist()
    ]
    return dict(sorted(counts, key=lambda each: (-each[1], each[0])))


def _shown(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    each = list(counts.items())
    yield from each[:_NUM_SHOWN]
    if rest := each[_NUM_SHOWN:]:
        yield f"and {len(rest)} more", sum(count for _, count in rest)


def _range(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _whole(number: int | None) -> str:
    return human.ABSENT if number is None else f"{number:,}"
