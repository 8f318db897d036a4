"""What torch's CUDA errors mean to a sweep: this point does not fit, or the device is gone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from moeprof.errors import DeviceLost, DeviceOutOfMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

# Texts of the errors after which a CUDA context answers nothing more (CUDA runtime API,
# cudaError_t: 46, 100, 214, 700, 702, 710, 714-719, 721, 999).
_FATAL_TEXTS = (
    "busy or unavailable",
    "no CUDA-capable device is detected",
    "uncorrectable ECC error",
    "illegal memory access",
    "launch timed out",
    "device-side assert",
    "hardware stack error",
    "illegal instruction",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "Invalid access of peer GPU memory",
    "GPU is lost",
    "CUDA error: unknown error",
)
_MEMORY_TEXTS = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@contextmanager
def as_device_errors(doing: str) -> Iterator[None]:
    """Turn torch's memory and fatal errors into ours; any other error goes through unchanged.

    Raises:
        DeviceOutOfMemory: the GPU has too little free memory; torch's cache has been emptied.
        DeviceLost: the CUDA context is dead, and with it every later point of this process.

    """
    try:
        yield
    except RuntimeError as error:
        chain = tuple(causes(error))
        if any(_is_fatal(cause) for cause in chain):
            message = f"the GPU was lost while {doing}: {_first_line(chain[-1])}"
            hint = "Run the same command again; finished points are kept. `dmesg` may name an Xid."
            raise DeviceLost(message, hint=hint) from error
        if any(_is_out_of_memory(cause) for cause in chain):
            torch.cuda.empty_cache()
            message = f"out of GPU memory while {doing}: {_first_line(chain[-1])}"
            raise DeviceOutOfMemory(message, hint="Free the GPU, or measure less.") from error
        raise


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it, the root cause last."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _is_fatal(error: BaseException) -> bool:
    return any(text in str(error) for text in _FATAL_TEXTS)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(text in str(error) for text in _MEMORY_TEXTS)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
