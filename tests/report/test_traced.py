"""Claims about what is shown of a trace."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from trace_examples import LAYERS, NUM_EXPERTS, metadata, routed, write_example

from moeprof.report.traced import summary_table
from moeprof.report.traced_model import trace_progress
from moeprof.trace.counts import ExpertCounts
from moeprof.trace.reader import open_trace
from moeprof.trace.summary import summary_of, summary_of_counts
from moeprof.trace.tokens import RoutedTokens
from moeprof.trace.writer import writing_trace

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.trace.summary import TraceSummary


def shown(summary: TraceSummary) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    console.print(summary_table(summary, title="trace.parquet", num_bytes=4000))
    text = console.file.getvalue()
    return [" ".join(line.strip(" │").replace("│", " ").split()) for line in text.splitlines()]


def test_a_recorded_trace_is_told_in_a_few_lines(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    tokens = write_example(path)
    summary = summary_of(open_trace(path))
    used = [np.bincount(layer.ravel(), minlength=NUM_EXPERTS) for layer in tokens.experts]
    # Five requests of ten tokens: a step is the five tokens at one position.
    by_step = tokens.experts.reshape(len(LAYERS), 5, 10, 2)
    active = [
        len(np.unique(by_step[layer, :, position])) for layer in (0, 1) for position in range(10)
    ]

    assert summary.num_steps == 10
    assert summary.step_tokens == 5
    assert summary.active_experts_fraction == np.mean(active) / NUM_EXPERTS
    assert summary.most_used is not None
    index = LAYERS.index(summary.most_used.layer)
    assert used[index][summary.most_used.expert] == np.max(used)
    assert summary.most_used.fraction == np.max(used) / 50
    expert = f"expert {summary.most_used.expert} of layer {summary.most_used.layer}"
    share = f"{np.max(used) / 50 * 100:.1f}"
    assert shown(summary)[2:-1] == [
        "model tiny (mixtral)",
        "layers 2 of 8 experts, 2 per token",
        "tokens 50 in 5 requests",
        f"active experts {np.mean(active):.2f} of 8 per decode step of 5 requests (10 steps)",
        f"most used {expert}, {share} % of tokens",
        "logits of all experts, float16",
        "file 4.00 kB",
    ]


def test_dummies_are_told_and_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    experts = np.zeros((2, 30, 2), dtype=np.int16)
    experts[:, :, 1] = 1
    experts[:, 20:] = [[2, 3]]
    described = metadata(source="sglang", model=None, family=None, notes=("told by hand",))
    with writing_trace(path, described, weights=False, logits=False) as writer:
        is_dummy = np.arange(30) < 20
        step = np.arange(30, dtype=np.int32) // 5
        writer.write(RoutedTokens(experts, step=step, is_dummy=is_dummy))
        writer.num_tokens_left_out = 7

    lines = shown(summary_of(open_trace(path)))

    for line in (
        "model not told by sglang",
        "tokens 30",
        "dummies 20 tokens (66.7 %) of warm-up or profiling, flagged",
        "left out 7 tokens without experts",
        "active experts 2.00 of 8 per engine step (2 steps)",
        "most used expert 2 of layer 1, 100.0 % of tokens",
        "never used 12 of 16 experts",
        "logits none",
        "note told by hand",
    ):
        assert line in lines


def test_a_trace_of_dummies_only_tells_no_most_used_expert(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    with writing_trace(path, metadata(source="vllm"), weights=False, logits=False) as writer:
        writer.write(RoutedTokens(routed(9).experts, is_dummy=np.ones(9, dtype=np.bool_)))

    summary = summary_of(open_trace(path))

    assert summary.most_used is None
    assert summary.active_experts_fraction is None
    assert "active experts -" in shown(summary)


def test_logits_beyond_float16_are_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    with writing_trace(path, metadata(), weights=True, logits=True) as writer:
        writer.write(routed(20))
        writer.num_logits_at_limit = 1234

    lines = shown(summary_of(open_trace(path)))

    assert "WARNING 1,234 logits are beyond float16, stored as ±65504" in lines


def test_counts_are_not_shown_as_choices() -> None:
    rows = np.zeros((3, 2, NUM_EXPERTS), dtype=np.int32)
    rows[:, :, :4] = 5
    is_dummy = np.array([True, False, False])
    steps = np.arange(3, dtype=np.int32)
    described = metadata(kind="expert-counts", source="sglang")

    lines = shown(summary_of_counts(ExpertCounts(described, rows, steps, is_dummy)))

    assert "holds rows per expert and step, not which experts a token chose" in lines
    assert "tokens 30" in lines
    assert "dummies 10 tokens (33.3 %) of warm-up or profiling, flagged" in lines
    assert "active experts 4.00 of 8 per engine step (2 steps)" in lines


def test_progress_in_a_pipe_is_at_most_ten_lines() -> None:
    console = Console(file=io.StringIO(), width=120, highlight=False)

    with trace_progress(console) as on_tokens:
        for num_done in range(1, 1001):
            on_tokens(num_done, 1000)

    lines = console.file.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[-1] == "1,000 of 1,000 tokens recorded"
