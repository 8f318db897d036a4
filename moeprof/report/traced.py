"""What is shown of a trace that was written."""

from __future__ import annotations

import sys
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from moeprof.errors import ExitCode
from moeprof.report import human
from moeprof.report.consoles import console_on, print_json
from moeprof.trace.counts import open_counts
from moeprof.trace.reader import open_trace
from moeprof.trace.schema import FLOAT16_MAX
from moeprof.trace.summary import summary_of, summary_of_counts

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.trace.metadata import Kind
    from moeprof.trace.summary import TraceSummary


def show_import(
    source: Literal["sglang", "vllm"],
    file: Path,
    out: Path,
    *,
    num_experts: int | None,
    top_k: int | None,
    as_json: bool,
) -> ExitCode:
    """Import an engine's recording, and print what the trace holds."""
    importer = getattr(import_module(f"moeprof.trace.importers.{source}"), f"import_{source}")
    kind: Kind = importer(file, out, num_experts=num_experts, top_k=top_k)
    return show_written(out, kind, as_json=as_json)


def summary_table(summary: TraceSummary, *, title: str, num_bytes: int) -> Table:
    """Return a summary as a table, a fact in each line."""
    metadata = summary.metadata
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    table.add_column("")
    table.add_column("", overflow="fold")
    if metadata.kind == "expert-counts":
        table.add_row("holds", "rows per expert and step, not which experts a token chose")
    of = " ".join(filter(None, [metadata.model, f"({metadata.family})" if metadata.family else ""]))
    table.add_row("model", of or f"not told by {metadata.source}")
    table.add_row(
        "layers",
        f"{len(metadata.layers)} of {metadata.num_experts} experts, {metadata.top_k} per token",
    )
    requests = f" in {summary.num_requests:,} requests" if summary.num_requests else ""
    table.add_row("tokens", f"{summary.num_tokens:,}{requests}")
    if metadata.source != "recorded":
        table.add_row("dummies", _dummies(summary))
    if metadata.num_tokens_left_out:
        table.add_row("left out", f"{metadata.num_tokens_left_out:,} tokens without experts")
    table.add_row("active experts", _active(summary))
    if most := summary.most_used:
        share = human.percent(most.fraction, digits=1)
        table.add_row("most used", f"expert {most.expert} of layer {most.layer}, {share} of tokens")
    if summary.num_unused_experts:
        every = metadata.num_experts * len(metadata.layers)
        table.add_row("never used", f"{summary.num_unused_experts} of {every} experts")
    table.add_row("logits", "of all experts, float16" if summary.has_logits else "none")
    if metadata.num_logits_at_limit:
        table.add_row(
            "WARNING",
            f"{metadata.num_logits_at_limit:,} logits are beyond float16, stored as ±{FLOAT16_MAX}",
        )
    for note in metadata.notes:
        table.add_row("note", note)
    table.add_row("file", human.quantity(num_bytes, "B"))
    return table


def show_written(out: Path, kind: Kind, *, as_json: bool) -> ExitCode:
    """Print what a file that was just written holds."""
    is_counts = kind == "expert-counts"
    summary = summary_of_counts(open_counts(out)) if is_counts else summary_of(open_trace(out))
    num_bytes = out.stat().st_size
    if as_json:
        print_json(_document(summary) | {"out": str(out), "file_bytes": num_bytes})
    else:
        table = summary_table(summary, title=out.name, num_bytes=num_bytes)
        console_on(sys.stdout).print(table)
    return ExitCode.DONE


def _document(summary: TraceSummary) -> dict[str, Any]:
    document = asdict(summary)
    # The rules hold a number for every expert and layer, and are in the file.
    del document["metadata"]["gate_rules"]
    return document


def _dummies(summary: TraceSummary) -> str:
    share = human.percent(summary.num_dummy_tokens / summary.num_tokens, digits=1)
    return f"{summary.num_dummy_tokens:,} tokens ({share}) of warm-up or profiling, flagged"


def _active(summary: TraceSummary) -> str:
    if summary.active_experts_fraction is None:
        return human.ABSENT
    experts = human.three_digits(summary.active_experts_fraction * summary.metadata.num_experts)
    of = f"decode step of {summary.step_tokens} requests" if summary.step_tokens else "engine step"
    return f"{experts} of {summary.metadata.num_experts} per {of} ({summary.num_steps:,} steps)"
