"""The import of recordings of SGLang's expert-distribution recorder.

The recorder (`python/sglang/srt/eplb/expert_distribution.py` of sgl-project/sglang, read in its
state of 2025) dumps one of three layouts with torch.save, by its mode:

- `per_token`: {"records": [{"forward_pass_id", "input_ids", "positions", "extend_seq_lens",
  "forward_mode", "topk_ids_of_layer" [num_layers, num_tokens, 8], -1 where nothing was}, ...],
  "last_physical_to_logical_map" [num_layers, num_physical_experts]};
- `per_pass`: the same with "global_physical_count" [num_layers, num_physical_experts] in place of
  the tokens' fields;
- `stat`: {"logical_count" [num_steps, num_layers, num_experts], or one sum without steps}; steps of
  its ring buffer that never came are zero.

Only the first tells what a token chose. The others become expert counts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from moeprof.errors import TraceError
from moeprof.trace.counts import write_counts
from moeprof.trace.importers.choices import choices
from moeprof.trace.importers.sglang_counts import pass_counts, stat_counts
from moeprof.trace.importers.sglang_tokens import num_logical_experts, passes_of
from moeprof.trace.importers.torch_file import read_torch_file
from moeprof.trace.importers.write import write_choices
from moeprof.trace.metadata import Kind, TraceMetadata
from moeprof.trace.text import describe

if TYPE_CHECKING:
    from pathlib import Path


def import_sglang(file: Path, out: Path, *, num_experts: int | None, top_k: int | None) -> Kind:
    """Write a recording as a trace, or as expert counts, and return which of them it became.

    `num_experts` is needed where the file has no map of physical experts, `top_k` for counts.

    Raises TraceError: the file is damaged, of no known layout, would have to be run to be read,
    holds experts out of range, or does not tell a number that was not given.
    """
    content = read_torch_file(file)
    metadata = TraceMetadata(
        kind="routing",
        source="sglang",
        num_experts=num_experts or 0,
        top_k=top_k or 0,
        layers=(),
        files=(describe(file.name, file.read_bytes()),),
    )
    records = content.get("records") if isinstance(content, dict) else None
    if isinstance(records, list) and records and all(isinstance(each, dict) for each in records):
        if all("topk_ids_of_layer" in each for each in records):
            return _import_tokens(file, out, content, metadata)
        if all("global_physical_count" in each for each in records):
            write_counts(out, pass_counts(file, content, metadata))
            return "expert-counts"
    if isinstance(content, dict) and "logical_count" in content:
        write_counts(out, stat_counts(file, content["logical_count"], metadata))
        return "expert-counts"
    found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
    raise TraceError(
        f"{file}: must have records with topk_ids_of_layer or global_physical_count, or "
        f"logical_count; found {found or 'nothing'}",
        hint="Record with --expert-distribution-recorder-mode per_token, per_pass or stat.",
    )


def _import_tokens(file: Path, out: Path, content: dict[str, Any], metadata: TraceMetadata) -> Kind:
    asked = metadata.num_experts or None
    num_experts = num_logical_experts(file, content, asked)
    passes, notes = passes_of(file, content)
    found = choices(file, passes, num_experts=num_experts, top_k=metadata.top_k or None)
    described = replace(metadata, num_experts=num_experts, notes=notes)
    write_choices(out, found, described, are_requests=False)
    return "routing"
