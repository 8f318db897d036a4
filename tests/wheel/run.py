"""Build the wheel, install it in a clean environment, and run the tests there, sources away."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What the tests read besides the installed package.
BESIDE = (
    "tests",
    "pyproject.toml",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "Makefile",
    "docs",
)


def run(*command: str | Path, cwd: Path) -> None:
    print("+", *command, flush=True)  # noqa: T201 - a log of what is done
    # One thread for each of pytest's processes, which already fill the cores.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in command], cwd=cwd, check=True, env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="has `build` installed")
    arguments = parser.parse_args()
    builder = Path(arguments.python).absolute()
    with tempfile.TemporaryDirectory(prefix="moeprof-wheel-") as text:
        folder = Path(text)
        run(builder, "-m", "build", "--outdir", folder / "dist", ROOT, cwd=folder)
        (wheel,) = (folder / "dist").glob("*.whl")
        environment = folder / "environment"
        run(builder, "-m", "venv", environment, cwd=folder)
        python = environment / "bin" / "python"
        run(
            python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "-c", ROOT / "constraints.txt", f"{wheel}[test]", cwd=folder,
        )  # fmt: skip
        away = folder / "away"
        away.mkdir()
        for name in BESIDE:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, away / name)
        spread = ("-n", "auto", "--dist", "loadfile")
        run(python, "-m", "pytest", "-q", "-m", "not slow", *spread, cwd=away)


if __name__ == "__main__":
    main()
