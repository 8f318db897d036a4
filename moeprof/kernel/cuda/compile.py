"""Machine code from CUDA C++ by NVRTC, which needs neither a driver nor a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from moeprof.errors import KernelUnsupported
from moeprof.kernel.cuda.sources import source_text

if TYPE_CHECKING:
    from moeprof.kernel.cuda.variants import Variant

# No fast math: a division or a subnormal that a kernel wants approximated it asks for itself. The
# report of "-v" is where registers and spills are read from.
OPTIONS: Final = (("std", "c++17"), ("ptxas_options", ("-v",)))

_NUM_LINES_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Built:
    """A variant's machine code, what NVRTC said of it, and NVRTC's version as `13.5`."""

    variant: Variant
    architecture: str
    cubin: bytes
    report: str
    compiler: str


def compile_variant(variant: Variant, architecture: str) -> Built:
    """Compile a variant for an architecture, as `sm_90a`.

    Raises:
        KernelUnsupported: cuda-core is missing, or the source does not compile.

    """
    # First, because this is where a missing library is noticed.
    compiler = compiler_version()
    core: Any = import_module("cuda.core")
    options = {name: value if isinstance(value, str) else list(value) for name, value in OPTIONS}
    log = StringIO()
    try:
        program = core.Program(
            source_text(variant, architecture),
            "c++",
            core.ProgramOptions(arch=architecture, name=variant.source, **options),
        )
        cubin = program.compile("cubin", logs=log).code
    except Exception as error:
        # cuda-core's own NVRTCError has had several homes.
        if type(error).__name__ != "NVRTCError":
            raise
        raise KernelUnsupported(
            f"kernel {variant.name} does not compile for {architecture} with NVRTC {compiler}: "
            f"{_first_errors(str(error))}",
            hint="Install another cuda-core or nvidia-cuda-nvrtc; 13.0 to 13.5 are known to work.",
        ) from error
    return Built(variant, architecture, bytes(cubin), log.getvalue(), compiler)


def compiler_version() -> str:
    """Return NVRTC's version, as `13.5`.

    Raises:
        KernelUnsupported: cuda-core, or NVRTC itself, is missing.

    """
    try:
        import_module("cuda.core")
        nvrtc: Any = import_module("cuda.bindings.nvrtc")
        _, major, minor = nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        # The bindings say RuntimeError where they find no libnvrtc.
        raise KernelUnsupported(
            f"CUDA kernels are built with cuda-core, which cannot be used: {error}",
            hint='pip install "moeprof[cuda]"',
        ) from error
    return f"{major}.{minor}"


def _first_errors(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if "error" in line.lower()]
    # The first line is the name of the exception's code, which says nothing more.
    telling = [line for line in lines if "NVRTC_ERROR" not in line] or lines
    return "; ".join(telling[:_NUM_LINES_SHOWN])
