"""Small CUDA kernels, in a folder that takes the place of moeprof's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeprof.kernel.cuda.variants import Variant
from moeprof.resources import kernels_folder

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

# Copies 16 bytes for each thread, waits for them and doubles the first float.
_COPY = """
KERNEL(THREADS, 1) copies(float* data, int count) {
    SHARED_MEMORY(held);
    const u32 at = shared_address(held) + 16 * threadIdx.x;
    copy_async_16(at, data + 4 * threadIdx.x, static_cast<int>(threadIdx.x) < count);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    data[threadIdx.x] = FACTOR * load_shared_float(at);
}
KERNEL(32, 1) does_nothing() {}
"""
# Indexes an array with what only the run knows, which needs a stack.
_STACK = """
KERNEL(32, 1) indexes(float* data, int count) {
    float values[40];
    NO_UNROLL for (int i = 0; i < 40; ++i) values[i] = data[i * count];
    data[count] = values[count % 40] + values[(count + threadIdx.x) % 40];
}
"""
# Keeps more values alive than two blocks of 1024 threads have registers for.
_SPILL = """
KERNEL(1024, 2) keeps(float* data, int count) {
    float values[64];
    UNROLL for (int i = 0; i < 64; ++i) values[i] = data[i * count + threadIdx.x];
    __syncthreads();
    UNROLL for (int i = 0; i < 64; ++i) data[(63 - i) * count] = values[i] * values[0];
}
"""

COPIES = Variant(
    name="copies-t128",
    source="copies.cu",
    entry="copies",
    defines=(("THREADS", "128"), ("FACTOR", "2.0f")),
    num_threads=128,
    shared_bytes=2048,
    expects=("LDGSTS.E.128",),
)
INDEXES = Variant("indexes", "stack.cu", "indexes", (), num_threads=32, shared_bytes=0)
KEEPS = Variant("keeps", "spill.cu", "keeps", (), num_threads=1024, shared_bytes=0)


def use_examples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the examples, and moeprof's own device.cuh, where sources are read from."""
    device = (kernels_folder() / "device.cuh").read_text(encoding="utf-8")
    files = {"device.cuh": device, "copies.cu": _COPY, "stack.cu": _STACK, "spill.cu": _SPILL}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr("moeprof.kernel.cuda.sources.kernels_folder", lambda: folder)
    monkeypatch.setenv("MOEPROF_CACHE", str(folder / "cache"))
