"""Compile the Triton expert kernels for several GPUs, without one, and print what they use."""

from __future__ import annotations

import re
import sys
import time

from moeprof.kernel.triton_compile import compile_experts
from moeprof.kernel.triton_tiles import default_tile
from moeprof.kernel.triton_work import triton_version

CAPABILITIES = ((8, 0), (8, 9), (9, 0), (10, 0), (12, 0))
NUM_TOKENS = (16, 48, 64, 96, 128, 512, 4096)  # one for each of the fallback's tiles


def main() -> int:
    """Return 1 where a kernel spills registers."""
    print(f"Triton {triton_version()}")
    spilled, start = 0, time.perf_counter()
    for capability in CAPABILITIES:
        for dtype in ("bf16", "fp8_block"):
            for tile in dict.fromkeys(default_tile(dtype, n, capability) for n in NUM_TOKENS):
                for made in compile_experts(dtype, tile, capability):
                    spilled += made.stack_bytes > 0
                    copies = len(re.findall(r"cp\.async\.c[ag]\.[^;]*, (?:0x10|16)[,;]", made.ptx))
                    products = len(re.findall(r"mma\.sync|wgmma\.mma_async|tcgen05\.mma", made.ptx))
                    print(
                        f"sm_{capability[0]}{capability[1]:<2} {dtype:9} {tile!s:36} "
                        f"{made.name:14} {made.registers:4} registers {made.stack_bytes:5} B "
                        f"spilled {made.shared_bytes / 1024:6.1f} KiB shared {copies:3} copies of "
                        f"16 B {products:3} products"
                    )
    print(f"{spilled} kernels spill; {time.perf_counter() - start:.1f} s")
    return int(spilled > 0)


if __name__ == "__main__":
    sys.exit(main())
