"""Trains the mini MoE that ships with moeprof anew, and records the trace of its gates."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MODEL_FILES = ("config.json", "model.safetensors", "moeprof.json", "train.json")
WINDOW_BYTES = 256
NUM_WINDOWS = 224  # of held-out text, to run the model over
NUM_TRACED = 56  # of them: full logits of more would not be small
NEXT_WINDOW = 89  # prime to the number of windows, so that the first ones come from everywhere


def moeprof(*words: str) -> None:
    """Run one command of moeprof, and stop where it fails."""
    subprocess.run([sys.executable, "-m", "moeprof", *words], check=True)  # noqa: S603 - our own


def sample(text: bytes) -> bytes:
    """Return windows from all over a text, in an order in which the first ones are so, too."""
    stride = (len(text) - WINDOW_BYTES) // (NUM_WINDOWS - 1)
    starts = [(place * NEXT_WINDOW % NUM_WINDOWS) * stride for place in range(NUM_WINDOWS)]
    return b"".join(text[start : start + WINDOW_BYTES] for start in starts)


def main() -> None:
    """Train (half an hour on two cores), or take the folder of a finished training, and record.

    The folder may be given: then a training that was interrupted there goes on.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        moeprof("train", "mini-moe", "--out", str(folder))
        for name in MODEL_FILES:
            shutil.copyfile(folder / name, HERE / name)
        text = HERE / "held-out.txt"
        text.write_bytes(sample((folder / text.name).read_bytes()))
    limits = ("--window", str(WINDOW_BYTES), "--tokens-max", str(NUM_TRACED * WINDOW_BYTES))
    moeprof("trace", str(HERE), "--text", str(text), *limits, "--out", str(HERE / "trace.parquet"))


if __name__ == "__main__":
    main()
