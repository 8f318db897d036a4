"""Writes the trace that the issue asks for and prints the most memory that this took, in MiB."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from moeprof.trace.metadata import TraceMetadata
from moeprof.trace.tokens import RoutedTokens
from moeprof.trace.writer import writing_trace

NUM_TOKENS, NUM_LAYERS, NUM_EXPERTS, TOP_K = 100_000, 8, 32, 4


def main(path: Path) -> None:
    draw = np.random.default_rng(0)
    layers = tuple(range(NUM_LAYERS))
    metadata = TraceMetadata("routing", "recorded", NUM_EXPERTS, TOP_K, layers, ())
    with writing_trace(path, metadata, weights=True, logits=True) as writer:
        for _ in range(NUM_TOKENS // 4000):
            logits = draw.standard_normal((NUM_LAYERS, 4000, NUM_EXPERTS), dtype=np.float32)
            experts = np.argpartition(-logits, TOP_K, axis=2)[:, :, :TOP_K]
            weights = np.take_along_axis(logits, experts, axis=2)
            writer.write(
                RoutedTokens(
                    experts.astype(np.int16), weights=weights, logits=logits.astype(np.float16)
                )
            )
    # Not getrusage: after an exec, its count begins with what the parent held.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    sys.stdout.write(f"{int(line.split()[1]) / 1024:.0f}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
