"""How long all CUDA kernels take to compile for all architectures, and that it is not too long.

Run as `python benchmarks/compile_all.py`; ends with 1 where it takes longer than three minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from importlib.metadata import version

from moeprof.kernel.cuda.compile import compiler_version
from moeprof.kernel.cuda.inspection import inspect_all
from moeprof.kernel.cuda.variants import ARCHITECTURES, all_variants

LIMIT_SECONDS = 180.0


def main() -> int:
    """Compile and disassemble everything, without a cache."""
    num_workers = len(os.sched_getaffinity(0))
    targets = [
        (variant, architecture)
        for architecture in ARCHITECTURES
        for variant in all_variants(architecture)
    ]
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MOEPROF_CACHE"] = folder
        found = inspect_all(targets, num_workers=num_workers, on_progress=lambda *_: None)
    wall_seconds = time.perf_counter() - begun
    used = os.times()
    cpu_seconds = used.children_user + used.children_system
    print(f"NVRTC {compiler_version()}, cuda-core {version('cuda-core')}")
    print(f"{len(found)} kernels, {len(ARCHITECTURES)} architectures, {num_workers} workers")
    print(f"{wall_seconds:.1f} s, {cpu_seconds:.1f} s of CPU (limit {LIMIT_SECONDS:.0f} s)")
    return int(wall_seconds > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
