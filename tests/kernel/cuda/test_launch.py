from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from moeprof.errors import KernelUnsupported
from moeprof.kernel.cuda.launch import architecture_for, load
from moeprof.kernel.cuda.variants import ARCHITECTURES

if TYPE_CHECKING:
    from pathlib import Path

COMPILER = shutil.which("cc")

# A driver that says on stdout what it is asked for, which the real bindings are pointed at. The
# attributes are 16 multiprocessors, 75 and 76 capability, 97 shared memory of a block (cuda.h).
_DRIVER = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#define SAY(...) do { printf(__VA_ARGS__); fflush(stdout); } while (0)
typedef unsigned u;
static int absent(void) { return 801; }
int cuInit(u flags) { return 0; }
int cuDriverGetVersion(int* v) { *v = 13000; return 0; }
int cuDeviceGet(int* device, int index) { *device = index; return 0; }
int cuDeviceGetAttribute(int* v, int a, int device) {
    *v = a == 16 ? 132 : a == 97 ? 232448 : a == 75 ? 9 : a == 76 ? 0 : -1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void** c, int device) { *c = (void*)0x11; return 0; }
int cuCtxPushCurrent_v2(void* c) { SAY("push %p\n", c); return 0; }
int cuCtxPopCurrent_v2(void** c) { SAY("pop\n"); *c = (void*)0x11; return 0; }
int cuLibraryLoadData(void** l, const void* code, void* a, void* b, u n, void* c, void* d, u m) {
    SAY("load %s\n", (const char*)code);
    *l = (void*)0x22;
    return strcmp(code, "NEWER") ? strcmp(code, "MANY") ? 0 : 2 : 209;
}
int cuLibraryGetKernel(void** k, void* l, const char* name) {
    SAY("kernel %p %s\n", l, name);
    *k = (void*)0x33;
    return 0;
}
int cuKernelGetFunction(void** f, void* k) { *f = (void*)0x44; return 0; }
int cuFuncSetAttribute(void* f, int a, int v) { SAY("set %p %d %d\n", f, a, v); return 0; }
int cuFuncGetParamInfo(void* f, size_t i, size_t* at, size_t* size) {
    if (i > 1) return 1;
    *at = 16 * i;
    *size = i == 0 ? 16 : 4;
    return 0;
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, void* f, int threads, size_t shared) {
    SAY("occupancy %p %d %zu\n", f, threads, shared);
    *n = 2;
    return 0;
}
static void say(const char* how, void* f, u gx, u gy, u gz, u bx, u by, u bz, u shared, void* s,
                void** p) {
    unsigned long long* pair = p[0];
    SAY("%s %p %u %u %u, %u %u %u, %u, %p: %llu %llu, %d\n", how, f, gx, gy, gz, bx, by, bz, shared,
        s, pair[0], pair[1], *(int*)p[1]);
}
int cuLaunchKernel(void* f, u gx, u gy, u gz, u bx, u by, u bz, u shared, void* s, void** p,
                   void** extra) {
    say(extra ? "extra" : "launch", f, gx, gy, gz, bx, by, bz, shared, s, p);
    return gx == 7 ? 700 : 0;
}
int cuLaunchCooperativeKernel(void* f, u gx, u gy, u gz, u bx, u by, u bz, u shared, void* s,
                              void** p) {
    say("together", f, gx, gy, gz, bx, by, bz, shared, s, p);
    return gx == 7 ? 720 : 0;
}
int cuGetErrorString(int e, const char** s) {
    *s = e == 700 ? "an illegal memory access was encountered" : e == 2 ? "out of memory"
         : e == 720 ? "too many blocks in cooperative launch" : "no image for this device";
    return 0;
}
int cuGetErrorName(int e, const char** s) {
    *s = e == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : e == 2 ? "CUDA_ERROR_OUT_OF_MEMORY"
         : e == 720 ? "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE" : "CUDA_ERROR_NO_BINARY_FOR_GPU";
    return 0;
}
int cuGetProcAddress_v2(const char* name, void** p, int v, unsigned long long f, int* status) {
    char versioned[256];
    void* self = dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_NOW);
    snprintf(versioned, sizeof versioned, "%s_v2", name);
    *p = dlsym(self, versioned);
    if (!*p) *p = dlsym(self, name);
    if (!*p) *p = (void*)absent;
    if (status) *status = 0;
    return 0;
}
"""

_BEGIN = """\
import ctypes
from moeprof.kernel.cuda.compile import Built
from moeprof.kernel.cuda.launch import architecture_of, load
from moeprof.kernel.cuda.variants import Variant

class Pair(ctypes.Structure):
    _fields_ = (("first", ctypes.c_uint64), ("second", ctypes.c_uint64))

def built(code=b"CODE", shared_bytes=4096):
    return Built(Variant("k", "k.cu", "entry", (), 128, shared_bytes), "sm_90a", code, "", "13.5")

def say(*words):
    print(*words, flush=True)

def refused(call):
    try:
        call()
    except Exception as error:
        say(type(error).__name__, error)

"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(_DRIVER, encoding="utf-8")
    library = folder / "libcuda.so.1"
    options = ["-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", str(library)]
    subprocess.run([COMPILER, *options, str(folder / "cuda.c"), "-ldl"], check=True)
    return folder


def said(driver: Path, script: str) -> list[str]:
    """Run a script in a process whose driver is the one above, and return what both say."""
    ran = subprocess.run(
        [sys.executable, "-c", _BEGIN + script],
        env={**os.environ, "LD_LIBRARY_PATH": str(driver)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_kernel_is_loaded_once_into_the_primary_context_and_says_how_many_fit(
    driver: Path,
) -> None:
    script = """
one = load(built(shared_bytes=90_000), 0)
same = load(built(shared_bytes=90_000), 0)
say(one is same, one.max_blocks_per_multiprocessor, one.num_multiprocessors)
say(architecture_of(0))
"""

    assert said(driver, script) == [
        "push 0x11",
        "load CODE",
        "kernel 0x22 entry",
        "set 0x44 8 90000",  # MAX_DYNAMIC_SHARED_SIZE_BYTES
        "set 0x44 9 100",  # PREFERRED_SHARED_MEMORY_CARVEOUT
        "occupancy 0x44 128 90000",
        "pop",
        "True 2 132",
        "sm_90a",
    ]


def test_a_kernel_with_little_shared_memory_keeps_its_cache(driver: Path) -> None:
    assert "set 0x44 9 100" not in said(driver, "load(built(shared_bytes=48 * 1024), 0)")


def test_a_launch_brings_grid_block_stream_and_the_arguments_bytes(driver: Path) -> None:
    script = """
import gc
one = load(built(shared_bytes=0), 0)
pair = Pair(123456789012345, 2)
once = one.prepare(264, (pair, ctypes.c_int32(-7)))
together = one.prepare(264, (pair, ctypes.c_int32(5)), cooperative=True)
pair.second = 3
del pair
gc.collect()
once(0xABC)
together(0)
one.launch(1, (Pair(4, 5), ctypes.c_int32(6)), stream=16)
"""

    assert [line for line in said(driver, script) if ":" in line] == [
        "launch 0x44 264 1 1, 128 1 1, 0, 0xabc: 123456789012345 3, -7",
        "together 0x44 264 1 1, 128 1 1, 0, (nil): 123456789012345 3, 5",
        "launch 0x44 1 1 1, 128 1 1, 0, 0x10: 4 5, 6",
    ]


def test_cudas_errors_are_said_as_torch_says_them(driver: Path) -> None:
    script = """
one = load(built(), 0)
arguments = (Pair(1, 2), ctypes.c_int32(3))
refused(lambda: one.launch(7, arguments, stream=0))
refused(lambda: one.launch(7, arguments, stream=0, cooperative=True))
refused(lambda: load(built(b"MANY"), 0))
"""

    assert [line for line in said(driver, script) if "Error" in line] == [
        f"RuntimeError CUDA error: {words}, {doing} k)"
        for words, doing in (
            ("an illegal memory access was encountered (CUDA_ERROR_ILLEGAL_ADDRESS", "launching"),
            (
                "too many blocks in cooperative launch (CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE",
                "launching",
            ),
            ("out of memory (CUDA_ERROR_OUT_OF_MEMORY", "loading"),
        )
    ]


def test_what_this_gpu_or_its_driver_cannot_run_is_refused(driver: Path) -> None:
    script = """
refused(lambda: load(built(b"NEWER"), 0))
refused(lambda: load(built(shared_bytes=232449), 0))
"""

    lines = said(driver, script)
    assert lines[:3] == ["push 0x11", "load NEWER", "pop"]
    assert lines[3].startswith(
        "KernelUnsupported kernel k for sm_90a, compiled by NVRTC 13.5, cann"
    )
    assert lines[4] == (
        "KernelUnsupported kernel k needs 232449 bytes of shared memory in a block, "
        "this GPU has 232448"
    )


def test_arguments_of_another_size_than_the_kernels_are_our_mistake(driver: Path) -> None:
    script = """
one = load(built(), 0)
refused(lambda: one.prepare(1, Pair(1, 2)))
refused(lambda: one.prepare(1, (Pair(1, 2), ctypes.c_int64(3))))
"""

    assert [line for line in said(driver, script) if "Assertion" in line] == [
        "AssertionError entry takes parameters of [16, 4] bytes, not [16]",
        "AssertionError entry takes parameters of [16, 4] bytes, not [16, 8]",
    ]


def test_every_architecture_is_of_one_capability() -> None:
    capabilities = ("8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0")

    assert tuple(architecture_for(each) for each in capabilities) == ARCHITECTURES
    for other in ("7.5", "8.7", "9.1", "11.0", "12.1", "unknown", ""):
        assert architecture_for(other) is None


def test_without_the_bindings_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)

    with pytest.raises(KernelUnsupported, match="launched with cuda-core") as caught:
        load(None, 0)
    assert caught.value.hint == 'pip install "moeprof[cuda]"'
