"""An NVIDIA GPU: torch runs and times the work, NVML reads the sensors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from moeprof.device.cuda_errors import as_device_errors
from moeprof.device.cuda_program import CudaProgram
from moeprof.device.nvml import Nvml
from moeprof.device.protocol import Ceilings, DeviceIdentity
from moeprof.errors import DeviceUnavailable
from moeprof.hardware.catalogue import gpu_of_device

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from moeprof.device.protocol import Program, Work
    from moeprof.hardware.gpu import GPU
    from moeprof.record import DeviceState


def open_cuda(index: int) -> CudaDevice:
    """Open the GPU that CUDA numbers `index`; CUDA_VISIBLE_DEVICES decides that number.

    Raises:
        DeviceUnavailable: there is no such GPU, or torch cannot run anything on it.

    """
    if (reason := cuda_refusal(index)) is not None:
        raise DeviceUnavailable(
            f"cuda:{index} cannot be used: {reason}",
            hint="`moeprof doctor` says what to mend; --device cpu and sim:GPU need no GPU.",
        )
    return CudaDevice(index)


def cuda_refusal(index: int) -> str | None:
    """Return why torch cannot use this GPU, or None if it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no NVIDIA driver or no GPU"
    if index >= (count := torch.cuda.device_count()):
        return f"torch sees {count} GPUs, numbered from 0"
    try:
        torch.ones(1, device=f"cuda:{index}").add_(1).cpu()
    except RuntimeError as error:
        return f"a first kernel failed: {str(error).splitlines()[0]}"
    return None


class NvmlEnergyCounter:
    """NVML's count of joules since the driver was loaded."""

    source = "nvml_counter"

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml

    def read(self) -> float | None:
        """Return joules, or None where this read failed. Raises DeviceLost."""
        return self._nvml.energy_joules()


class CudaDevice:
    """One NVIDIA GPU; see `moeprof.device.protocol.Device`.

    `torch_device` is where kernels put their tensors. `nvml` is given by tests only.
    """

    def __init__(self, index: int, *, nvml: Nvml | None = None) -> None:
        self.torch_device = torch.device("cuda", index)
        properties = torch.cuda.get_device_properties(self.torch_device)
        # One for all programs: cuBLAS keeps a workspace, up to 32 MiB, for every stream it saw.
        self._stream = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]
        self._nvml = nvml or Nvml(str(properties.uuid))
        versions = {
            "torch": torch.__version__,
            "cuda": str(torch.version.cuda),
            "capability": f"{properties.major}.{properties.minor}",
        }
        if self._nvml.driver_version is not None:
            versions["driver"] = self._nvml.driver_version
        self.identity = DeviceIdentity(
            kind="cuda", name=properties.name, uuid=self._nvml.full_uuid, versions=versions
        )
        self.specification: GPU | None = gpu_of_device(properties.name)
        self.l2_bytes: int = properties.L2_cache_size
        self.power_limit_watts = self._nvml.power_limit_watts
        self.energy_absent_reason = self._nvml.energy_absent_reason
        counts = self.energy_absent_reason is None
        self.energy_counter = NvmlEnergyCounter(self._nvml) if counts else None

    def now(self) -> float:
        """Return seconds on the host's monotonic clock."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Leave the GPU idle for `seconds`."""
        time.sleep(seconds)

    def wall_clock(self) -> float:
        """Return seconds since the Unix epoch."""
        return time.time()

    def state(self) -> DeviceState:
        """Read every sensor. Raises DeviceLost."""
        return self._nvml.state(self.now())

    def free_bytes(self) -> int:
        """Return what the driver has free, and what torch holds in its cache unused."""
        with as_device_errors("asking for free memory"):
            free, _ = torch.cuda.mem_get_info(self.torch_device)
            reserved = torch.cuda.memory_reserved(self.torch_device)
            return free + reserved - torch.cuda.memory_allocated(self.torch_device)

    def ceilings(self, dtype: str) -> Ceilings | None:
        """Return the datasheet's peaks; None: the GPU or this dtype is not in the catalogue."""
        gpu = self.specification
        if gpu is None or dtype not in gpu.peak_flops_per_second:
            return None
        return Ceilings(
            bytes_per_second=gpu.memory_bytes_per_second,
            flops_per_second=gpu.peak_flops_per_second[dtype],
            source="datasheet",
        )

    def translating_errors(self, doing: str) -> AbstractContextManager[None]:
        """Turn torch's memory and fatal errors into DeviceOutOfMemory and DeviceLost."""
        return as_device_errors(doing)

    def prepare(self, work: Work) -> Program:
        """Capture the work in a CUDA graph.

        Raises KernelUnsupported, DeviceOutOfMemory, DeviceLost.
        """
        return CudaProgram(work, self._stream, self.now)

    def snapshot(self) -> dict[str, Any] | None:
        """Return None: a real GPU keeps its own state."""
        return None

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Refuse: no snapshot of a real GPU exists."""
        raise AssertionError(f"a real GPU cannot be set to a snapshot: {sorted(snapshot)}")

    def close(self) -> None:
        """Release NVML; torch keeps its memory until the process ends."""
        self._nvml.close()
