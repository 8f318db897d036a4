"""How long `moeprof --help` takes: the median of ten, target under 0.3 s."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def main() -> None:
    """Time the command as a whole process, ten times after one warm-up."""
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "moeprof", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    print(f"moeprof --help: median {statistics.median(seconds[1:]):.3f} s, target < 0.3 s")


if __name__ == "__main__":
    main()
