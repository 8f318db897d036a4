"""moeprof's CUDA sources compiled for the CPU, to check their arithmetic without a GPU."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from moeprof.errors import DeviceUnavailable, KernelUnsupported
from moeprof.resources import kernels_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

# Global memory that a launch may touch: address, bytes, and whether it may write there.
Range: TypeAlias = tuple[int, int, bool]
# One structure by value, or a kernel's parameters in order.
Arguments: TypeAlias = ctypes.Structure | tuple[Any, ...]

# What stands in the place of a header that speaks PTX.
_HOST_HEADERS: Final = {"wgmma.cuh": "host_hopper.hpp", "mla.cuh": "mla_host.hpp"}
# The checks call functions of host_fibres.hpp: linking apart keeps the compiler's runtime out.
_COMPILE: Final = (
    "-std=c++20",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-strict-aliasing",
    "-fsanitize=alignment,bounds,shift-exponent,integer-divide-by-zero",
    "-fno-sanitize-recover=all",
)
_LINK: Final = ("-shared", "-fPIC", "-pthread")
_NO_COMPILER: Final = "no C++ compiler on PATH: c++, g++ or clang++ is needed"
_MESSAGE_BYTES: Final = 4096
_ERROR_LINES: Final = 20
# A launch takes over the signals of a crash, which belong to the whole process.
_ONE_AT_A_TIME: Final = threading.Lock()


class _Range(ctypes.Structure):
    """`Range` of `kernels/host_fibres.hpp`."""

    _fields_ = (
        ("address", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("writable", ctypes.c_uint64),
    )


class _Request(ctypes.Structure):
    """`Request` of `kernels/host_fibres.hpp`."""

    _fields_ = (
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared_bytes", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("ranges", ctypes.c_void_p),
        ("num_ranges", ctypes.c_uint64),
        ("arguments", ctypes.c_void_p),
        ("argument_bytes", ctypes.c_void_p),
        ("num_arguments", ctypes.c_uint64),
        ("message", ctypes.c_char_p),
        ("message_bytes", ctypes.c_uint64),
    )


class HostKernel:
    """A kernel of `kernels/` as a function of this machine's CPU."""

    def __init__(self, library: Path) -> None:
        self._launch = ctypes.CDLL(str(library)).moeprof_launch
        self._launch.restype = ctypes.c_int

    def launch(
        self,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        arguments: Arguments,
        *,
        shared_bytes: int,
        seed: int = 0,
        ranges: Sequence[Range] | None = None,
    ) -> None:
        """Run all threads of a grid to their end, in an order that `seed` decides.

        `grid` and `block` are up to three sizes, x first. The pointers in `arguments` are addresses
        of this process. With `ranges`, what `kernels/host.hpp` sees of accesses to global memory
        must lie in them. Raises RuntimeError with the line, block and thread of the kernel's fault.
        """
        values = arguments if isinstance(arguments, tuple) else (arguments,)
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        sizes = (ctypes.c_uint64 * len(values))(*(ctypes.sizeof(value) for value in values))
        allowed = (_Range * len(ranges or ()))(*(_Range(*one) for one in ranges or ()))
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        request = _Request(
            grid=_three(grid),
            block=_three(block),
            shared_bytes=shared_bytes,
            seed=seed,
            ranges=ctypes.addressof(allowed),
            num_ranges=len(allowed),
            arguments=ctypes.addressof(pointers),
            argument_bytes=ctypes.addressof(sizes),
            num_arguments=len(values),
            message=ctypes.cast(message, ctypes.c_char_p),
            message_bytes=_MESSAGE_BYTES,
        )
        with _ONE_AT_A_TIME:
            failed = self._launch(ctypes.byref(request))
        if failed:
            raise RuntimeError(message.value.decode(errors="replace"))


def refusal() -> str | None:
    """Return why kernels cannot be built for the CPU here, or None if they can."""
    return None if _found_compiler() else _NO_COMPILER


# By what is compiled and where it would be kept: whoever cannot keep it builds it once a process.
_BUILT: Final[dict[Path, HostKernel]] = {}


def host_kernel(
    source: str,
    entry: str,
    *,
    defines: Sequence[tuple[str, str]],
    headers: Sequence[str] = (),
    compiler: str | None = None,
) -> HostKernel:
    """Build the function `entry` of a file in `kernels/` (or of an absolute path) for the CPU.

    `headers` stand before it in their order; those that speak PTX are replaced by their host form.
    The library is kept in the folder `host` of MOEPROF_CACHE (default `~/.cache/moeprof`). Raises
    DeviceUnavailable where there is no compiler, KernelUnsupported with the first messages of one
    that refuses the text.
    """
    found = compiler or _found_compiler()
    if found is None:
        raise DeviceUnavailable(
            _NO_COMPILER, hint="Install a compiler, for example with: apt-get install g++"
        )
    text = _text(source, entry, defines, headers)
    parts = (text, *_COMPILE, *_LINK, _version(found))
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    kept = _cache_folder() / f"{key}.so"
    if kept not in _BUILT:
        _BUILT[kept] = _kept(kept) or _built(found, text, kept, f"kernels/{source}")
    return _BUILT[kept]


def _kept(library: Path) -> HostKernel | None:
    """Return what was built earlier, None where there is nothing, or no library."""
    try:
        return HostKernel(library) if library.is_file() else None
    except (OSError, AttributeError):
        return None


def _built(compiler: str, text: str, kept: Path, where: str) -> HostKernel:
    with tempfile.TemporaryDirectory() as folder:
        built = _compile(compiler, text, Path(folder), where)
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            # The copy makes the last step a rename within one file system: whole, or not there.
            shutil.copy(built, mine := kept.with_suffix(f".{os.getpid()}"))
            mine.replace(kept)
        except OSError:  # a folder that cannot be written only means building each time
            return HostKernel(built)
    return HostKernel(kept)


def _text(
    source: str, entry: str, defines: Sequence[tuple[str, str]], headers: Sequence[str]
) -> str:
    names = [
        "host_fibres.hpp",
        "host.hpp",
        *(_HOST_HEADERS.get(name, name) for name in headers),
        source,
    ]
    lines = [f"#define {name} {value}" for name, value in defines]
    for name in names:
        path = kernels_folder() / name
        lines += [f'#line 1 "{path.name}"', path.read_text(encoding="utf-8")]
    return "\n".join([*lines, f"MOEPROF_HOST_ENTRY({entry})", ""])


def _compile(compiler: str, text: str, folder: Path, where: str) -> Path:
    (folder / "kernel.cpp").write_text(text, encoding="utf-8")
    steps = (
        (*_COMPILE, "-c", "kernel.cpp", "-o", "kernel.o"),
        (*_LINK, "kernel.o", "-o", "kernel.so"),
    )
    for step in steps:
        done = subprocess.run(  # noqa: S603 - the user's own compiler
            [compiler, *step], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            first = "\n".join(done.stderr.splitlines()[:_ERROR_LINES])
            message = f"{where}: {compiler} cannot build it for the CPU:\n{first}"
            raise KernelUnsupported(message, hint="A compiler with C++20 is needed: g++ 12 is one.")
    return folder / "kernel.so"


def _found_compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


@lru_cache(maxsize=4)
def _version(compiler: str) -> str:
    return subprocess.run(  # noqa: S603 - the user's own compiler
        [compiler, "--version"], capture_output=True, text=True, check=True
    ).stdout


def _cache_folder() -> Path:
    home = os.environ.get("MOEPROF_CACHE")
    return (Path(home) if home else Path.home() / ".cache" / "moeprof") / "host"


def _three(sizes: int | tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (*((sizes,) if isinstance(sizes, int) else sizes), 1, 1)[:3]
    return x, y, z
