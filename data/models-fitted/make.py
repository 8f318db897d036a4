"""Fits the models that ship with moeprof anew, each from one table of aiconfigurator-core."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

# GPU, serving engine and its version, as aiconfigurator-core names them.
TABLES = (
    ("h200_sxm", "vllm", "0.24.0"),
    ("h100_sxm", "sglang", "0.5.14"),
    ("a100_sxm", "vllm", "0.14.0"),
    ("l40s", "vllm", "0.24.0"),
    ("b200_sxm", "vllm", "0.22.0"),
)
HERE = Path(__file__).parent


def moeprof(*words: str) -> None:
    """Run one command of moeprof, and stop where it fails."""
    subprocess.run([sys.executable, "-m", "moeprof", *words], check=True)  # noqa: S603 - our own


def main() -> None:
    """Import and fit every table."""
    for system, engine, version in TABLES:
        name = f"{system.replace('_', '-')}-{engine}-{version}"
        with tempfile.TemporaryDirectory() as folder:
            table = ("--system", system, "--engine", engine, "--version", version)
            moeprof("import", "aiconfigurator", *table, "--out", folder)
            out = str(HERE / f"{name}.json")
            moeprof("fit-cost", folder, "--holdout", "shape", "--peers", "none", "--out", out)


if __name__ == "__main__":
    main()
