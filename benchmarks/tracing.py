"""What recording a trace adds to a forward pass, and the memory that writing a large one takes.

Forward passes of a small MoE run without a recorder, with one, and with one whose tokens are also
written to the disk, in turn, so that all three see the same machine. Then 100,000 tokens at 8
layers of 32 experts are written and read back in a process of their own, whose peak memory is the
system's own count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from moeprof.gate.site import find_gates
from moeprof.trace.metadata import TraceMetadata
from moeprof.trace.reader import open_trace
from moeprof.trace.record import run
from moeprof.trace.recorder import GateRecorder
from moeprof.trace.tokens import RoutedTokens
from moeprof.trace.writer import TraceWriter, writing_trace

NUM_TOKENS, NUM_LAYERS, NUM_EXPERTS, TOP_K = 100_000, 8, 32, 4


def small_model(hidden_size: int, num_layers: int, num_experts: int) -> Any:
    """Return a random Qwen3-MoE of the shape of the mini model."""
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=256,
        hidden_size=hidden_size,
        moe_intermediate_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        num_experts=num_experts,
        num_experts_per_tok=2,
        max_position_embeddings=512,
    )
    return Qwen3MoeForCausalLM(config).eval()


def time_recording(num_rounds: int, device: str, *, top_only: bool) -> None:
    """Print what recording, and recording with writing, add to the forward time."""
    # The CPU's own time, which other programs on the machine do not lengthen.
    clock = time.process_time if device == "cpu" else time.perf_counter
    for hidden_size, num_experts in ((128, 16), (128, 32), (192, 32)):
        model = small_model(hidden_size, 6, num_experts).to(device)
        loaded: Any = SimpleNamespace(model=model)
        sites = find_gates(model)
        batch = torch.randint(256, (8, 512)).tolist()
        metadata = TraceMetadata(
            "routing", "recorded", num_experts, 2, tuple(site.layer for site in sites), ()
        )

        def forward(loaded: Any = loaded, batch: Any = batch) -> float:
            start = clock()
            run(loaded, batch)
            if device != "cpu":
                torch.cuda.synchronize()
            return clock() - start

        def recorded(writer: TraceWriter | None, sites: Any = sites) -> float:
            start = clock()
            with GateRecorder(sites, with_logits=not top_only) as recorder:
                run(loaded, batch)  # noqa: B023 - called in this turn of the loop only
                answers = recorder.take()
            if writer:
                writer.write(
                    RoutedTokens(answers.experts, weights=answers.weights, logits=answers.logits)
                )
            return clock() - start

        with (
            tempfile.TemporaryDirectory() as folder,
            writing_trace(
                Path(folder) / "trace.parquet", metadata, weights=True, logits=not top_only
            ) as writer,
        ):
            rounds = [(forward(), recorded(None), recorded(writer)) for _ in range(num_rounds + 1)]
        plain, hooked, written = (sum(each) for each in zip(*rounds[1:], strict=True))
        print(
            f"{device}, hidden {hidden_size}, 6 layers, {num_experts} experts, 8 x 512 tokens: "
            f"forward {plain / num_rounds * 1e3:.0f} ms; recording adds {hooked / plain - 1:+.1%}, "
            f"with writing {written / plain - 1:+.1%} (target at most +25 %)"
        )


def peak_memory_mib() -> float:
    """Return the most memory that this program has held, as Linux counts it.

    Not getrusage: after an exec, its count begins with what the parent held.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def write_large(path: Path) -> None:
    """Write and read a large trace, and print its size and this process's peak memory."""
    draw = np.random.default_rng(0)
    layers = tuple(range(NUM_LAYERS))
    metadata = TraceMetadata("routing", "recorded", NUM_EXPERTS, TOP_K, layers, ())
    before = peak_memory_mib()
    start = time.perf_counter()
    with writing_trace(path, metadata, weights=True, logits=True) as writer:
        for first in range(0, NUM_TOKENS, 4000):
            logits = draw.standard_normal((NUM_LAYERS, 4000, NUM_EXPERTS), dtype=np.float32)
            experts = np.argsort(-logits, axis=2)[:, :, :TOP_K].astype(np.int16)
            writer.write(
                RoutedTokens(
                    experts=experts,
                    request=np.arange(first, first + 4000, dtype=np.int32) // 500,
                    position=np.arange(first, first + 4000, dtype=np.int32) % 500,
                    weights=np.take_along_axis(logits, experts.astype(np.int64), axis=2),
                    logits=logits.astype(np.float16),
                )
            )
    written = time.perf_counter()
    trace = open_trace(path)
    for layer in layers:
        found = trace.read_layer(layer, ("logits",)).logits
        assert found is not None
        assert found.shape == (NUM_TOKENS, NUM_EXPERTS)
    read = time.perf_counter()
    print(
        f"{NUM_TOKENS:,} tokens x {NUM_LAYERS} layers x {NUM_EXPERTS} experts: "
        f"{path.stat().st_size / 1e6:.1f} MB, written in {written - start:.1f} s (draws included), "
        f"all logits read in {read - written:.2f} s; peak memory {peak_memory_mib():.0f} MiB, of "
        f"which {before:.0f} MiB before the first token (target at most 1024)"
    )


def main() -> None:
    """Time the recording, then write a large trace in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each model")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--top-only", action="store_true", help="record no logits")
    parser.add_argument("--large", type=Path, help="only write and read a large trace here")
    asked = parser.parse_args()
    if asked.large:
        write_large(asked.large)
        return
    time_recording(asked.rounds, asked.device, top_only=asked.top_only)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.parquet"
        subprocess.run([sys.executable, __file__, "--large", str(path)], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
