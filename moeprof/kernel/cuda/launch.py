"""Kernels put on a GPU and launched through CUDA's driver, in the context that torch uses."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from moeprof.errors import KernelUnsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.kernel.cuda.compile import Built

Arguments = ctypes.Structure | tuple[Any, ...]

# Machine code for an "a" architecture runs on that capability alone. What is for 8.6 would run on
# later 8.x, but those that are not here are Tegra's, which has no such compatibility (CUDA C++
# Programming Guide, "Binary Compatibility" and "Feature Availability").
_ARCHITECTURES: Final = {
    "8.0": "sm_80",
    "8.6": "sm_86",
    "8.9": "sm_89",
    "9.0": "sm_90a",
    "10.0": "sm_100a",
    "10.3": "sm_103a",
    "12.0": "sm_120a",
}
# What cuLibraryLoadData returns for machine code that is not for this GPU or for a later driver.
_NOT_FOR_THIS = (
    "CUDA_ERROR_INVALID_IMAGE",
    "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
)
_ALL_OF_IT_PERCENT: Final = 100
_ALWAYS_SHARED_BYTES: Final = 48 * 1024


def architecture_for(capability: str) -> str | None:
    """Return which of ARCHITECTURES runs on a compute capability as `9.0`; None if none does."""
    return _ARCHITECTURES.get(capability)


def architecture_of(device_index: int) -> str | None:
    """Return which of ARCHITECTURES runs on the GPU that CUDA numbers so; None if none does."""
    driver = _driver()
    device = _checked(driver, "cuDeviceGet", device_index)
    kind = driver.CUdevice_attribute
    major, minor = (
        _checked(driver, "cuDeviceGetAttribute", attribute, device)
        for attribute in (
            kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    return architecture_for(f"{major}.{minor}")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A variant on a GPU, in torch's context there, for as long as the process lives.

    `max_blocks_per_multiprocessor` is how many of its blocks are resident at once: times
    `num_multiprocessors` it is the largest grid of a cooperative launch.
    """

    built: Built
    device_index: int
    max_blocks_per_multiprocessor: int
    num_multiprocessors: int
    function: Any

    def prepare(
        self, grid: int, arguments: Arguments, *, cooperative: bool = False
    ) -> Callable[[int], None]:
        """Return what launches `grid` blocks on a stream, as `current_stream().cuda_stream`.

        `arguments` is the kernel's one structure, or its parameters as ctypes values; what they
        hold at a call is what is launched. A call is one of the driver's: it neither waits nor
        allocates, and can be captured. It raises RuntimeError with CUDA's words.
        """
        variant, driver = self.built.variant, _driver()
        values = arguments if isinstance(arguments, tuple) else (arguments,)
        _check_sizes(driver, self, values)
        # The array of pointers that the driver wants; both live as long as what is returned.
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        shape = (grid, 1, 1, variant.num_threads, 1, 1, variant.shared_bytes)
        at = ctypes.addressof(pointers)
        call = driver.cuLaunchCooperativeKernel if cooperative else driver.cuLaunchKernel
        extra = () if cooperative else (0,)
        done, function = driver.CUresult.CUDA_SUCCESS, self.function

        def launch(stream: int, *, _alive: object = (values, pointers)) -> None:
            (result,) = call(function, *shape, stream, at, *extra)
            if result != done:
                raise _error(driver, f"launching {variant.name}", result)

        return launch

    def launch(
        self, grid: int, arguments: Arguments, *, stream: int, cooperative: bool = False
    ) -> None:
        """Launch once; see `prepare`."""
        self.prepare(grid, arguments, cooperative=cooperative)(stream)


@cache
def load(built: Built, device_index: int) -> Loaded:
    """Put a kernel on a GPU; the same one again is the one that is there.

    Raises:
        KernelUnsupported: the GPU or its driver cannot run it, or cuda-core is missing.
        RuntimeError: CUDA failed, in its words.

    """
    driver = _driver()
    kind, setting = driver.CUdevice_attribute, driver.CUfunction_attribute
    shared_bytes = built.variant.shared_bytes
    device = _checked(driver, "cuDeviceGet", device_index)

    def attribute(name: str) -> int:
        found = _checked(driver, "cuDeviceGetAttribute", getattr(kind, name), device)
        return int(found)

    largest = attribute("CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
    if shared_bytes > largest:
        raise KernelUnsupported(
            f"kernel {built.variant.name} needs {shared_bytes} bytes of shared memory in a block, "
            f"this GPU has {largest}",
            hint="Choose a variant with fewer stages.",
        )
    # The primary context, which torch uses, whether torch has made it yet or not.
    _checked(driver, "cuCtxPushCurrent", _checked(driver, "cuDevicePrimaryCtxRetain", device))
    try:
        function = _function(driver, built)
        _checked(
            driver,
            "cuFuncSetAttribute",
            function,
            setting.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
            shared_bytes,
        )
        # A little of it is always there, and a kernel that needs no more wants the cache instead.
        if shared_bytes > _ALWAYS_SHARED_BYTES:
            # Else the driver may keep so much of it as a cache that fewer blocks are resident.
            _checked(
                driver,
                "cuFuncSetAttribute",
                function,
                setting.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
                _ALL_OF_IT_PERCENT,
            )
        num_blocks = _checked(
            driver,
            "cuOccupancyMaxActiveBlocksPerMultiprocessor",
            function,
            built.variant.num_threads,
            shared_bytes,
        )
    finally:
        _checked(driver, "cuCtxPopCurrent")
    if num_blocks < 1:
        raise KernelUnsupported(
            f"not one block of kernel {built.variant.name} fits on a multiprocessor of this GPU",
            hint="Choose a variant with fewer rows or stages.",
        )
    return Loaded(
        built=built,
        device_index=device_index,
        max_blocks_per_multiprocessor=int(num_blocks),
        num_multiprocessors=attribute("CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT"),
        function=function,
    )


def _function(driver: Any, built: Built) -> Any:
    """Return the kernel's handle in the current context; its code is on the GPU when it returns."""
    result, library = driver.cuLibraryLoadData(built.cubin, [], [], 0, [], [], 0)
    if result != driver.CUresult.CUDA_SUCCESS:
        error = _error(driver, f"loading {built.variant.name}", result)
        if _name(driver, result) in _NOT_FOR_THIS:
            raise KernelUnsupported(
                f"kernel {built.variant.name} for {built.architecture}, compiled by NVRTC "
                f"{built.compiler}, cannot be loaded: {error}",
                hint="Update the driver, or install the nvidia-cuda-nvrtc of its CUDA version.",
            ) from error
        raise error
    entry = built.variant.entry.encode()
    return _checked(
        driver, "cuKernelGetFunction", _checked(driver, "cuLibraryGetKernel", library, entry)
    )


def _check_sizes(driver: Any, loaded: Loaded, values: tuple[Any, ...]) -> None:
    """Assert that the kernel takes these parameters: too short a one would be read past its end."""
    expected: list[int] = []
    done = driver.CUresult.CUDA_SUCCESS
    try:
        while (found := driver.cuFuncGetParamInfo(loaded.function, len(expected)))[0] == done:
            expected.append(int(found[2]))
    except RuntimeError:
        return  # the bindings' word for a driver older than 12.4, which cannot be asked
    sizes = [ctypes.sizeof(value) for value in values]
    assert sizes == expected, (
        f"{loaded.built.variant.entry} takes parameters of {expected} bytes, not {sizes}"
    )


def _driver() -> Any:
    """Return the bindings of CUDA's driver, initialised. Raises KernelUnsupported, RuntimeError."""
    try:
        driver = import_module("cuda.bindings.driver")
    except ImportError as error:
        raise KernelUnsupported(
            f"CUDA kernels are launched with cuda-core, which cannot be used: {error}",
            hint='pip install "moeprof[cuda]"',
        ) from error
    _checked(driver, "cuInit", 0)
    return driver


def _checked(driver: Any, name: str, *arguments: Any) -> Any:
    """Call a function of the driver, and return the one thing that it gives besides its result."""
    result, *given = getattr(driver, name)(*arguments)
    if result != driver.CUresult.CUDA_SUCCESS:
        raise _error(driver, name, result)
    return given[0] if given else None


def _error(driver: Any, doing: str, result: Any) -> RuntimeError:
    # In torch's form, by which `moeprof.device.cuda_errors` knows what an error means.
    _, text = driver.cuGetErrorString(result)
    words = text.decode() if text else "unknown error"
    return RuntimeError(f"CUDA error: {words} ({_name(driver, result)}, {doing})")


def _name(driver: Any, result: Any) -> str:
    _, name = driver.cuGetErrorName(result)
    return name.decode() if name else str(result)
