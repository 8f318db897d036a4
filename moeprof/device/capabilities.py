"""What can be measured on this machine and what to mend, for `moeprof doctor`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from moeprof.device.rapl import PERMISSION_REMEDY, open_rapl

if TYPE_CHECKING:
    from moeprof.device.cuda import CudaDevice

_DRIVER = "Install an NVIDIA driver; in a container, pass the GPU through (--gpus all)."


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that can be done here, or why not, with what to do about it."""

    name: str
    available: bool
    detail: str
    remedy: str | None


def capabilities() -> tuple[Capability, ...]:
    """Return a line for every sensor, tool and kind of device; nothing of it raises."""
    return (*_cuda(), _nvcc(), _nvrtc(), *_cpu())


def _verdict(name: str, detail: str | None, reason: str | None, remedy: str | None) -> Capability:
    if reason is None:
        return Capability(name, available=True, detail=detail or "yes", remedy=None)
    return Capability(name, available=False, detail=reason, remedy=remedy)


def _cuda() -> tuple[Capability, ...]:
    from moeprof.device import cuda  # noqa: PLC0415 - torch loads slowly, and only when asked

    sensors = ("NVML", "energy counter", "clocks", "die temperature")
    if (reason := cuda.cuda_refusal(0)) is not None:
        without = "Install a torch built for CUDA: https://pytorch.org/get-started/locally/"
        remedy = without if "without CUDA" in reason else _DRIVER
        missing = (_verdict(name, None, f"no CUDA: {reason}", remedy) for name in sensors)
        return (_verdict("CUDA", None, reason, remedy), *missing)
    device = cuda.CudaDevice(0)
    try:
        return (_verdict("CUDA", device.identity.name, None, None), *_nvml(device))
    finally:
        device.close()


def _nvml(device: CudaDevice) -> tuple[Capability, ...]:
    from moeprof.errors import DeviceLost  # noqa: PLC0415

    driver = device.identity.versions.get("driver")
    try:
        state = device.state()
    except DeviceLost as error:
        return (_verdict("NVML", None, error.message, error.hint),)
    vm = "Use the whole GPU: a virtual machine or MIG may hide its sensors."
    missing = state.absent
    all_absent = missing.get("die_celsius") if driver is None else None
    return (
        _verdict("NVML", f"driver {driver}", all_absent, "pip install nvidia-ml-py; " + _DRIVER),
        _verdict("energy counter", "nvml_counter", device.energy_absent_reason, vm),
        _verdict("clocks", "SM and memory", missing.get("sm_clock_hertz"), vm),
        _verdict("die temperature", f"{state.die_celsius} °C now", missing.get("die_celsius"), vm),
    )


def _nvcc() -> Capability:
    found = shutil.which("nvcc")
    reason = None if found else "no nvcc on PATH"
    return _verdict("nvcc", found, reason, "Not needed; it comes with the CUDA toolkit.")


def _nvrtc() -> Capability:
    try:
        nvrtc = import_module("cuda.bindings.nvrtc")
        import_module("cuda.core")
        _, major, minor = nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        return _verdict("NVRTC (cuda-core)", None, reason, "pip install 'cuda-core[cu13]'")
    return _verdict("NVRTC (cuda-core)", f"{major}.{minor}", None, None)


def _cpu() -> tuple[Capability, ...]:
    from moeprof.device import cpu_sensors  # noqa: PLC0415

    rapl, reason = open_rapl()
    remedy = PERMISSION_REMEDY if "root only" in (reason or "") else "Use a machine that has it."
    celsius, no_celsius = cpu_sensors.die_celsius()
    return (
        _verdict("RAPL", rapl.source if rapl else None, reason, remedy),
        _verdict(
            "CPU temperature",
            f"{celsius} °C now",
            no_celsius,
            "Load the coretemp or k10temp module.",
        ),
        _verdict("CPU", cpu_sensors.cpu_name(), None, None),
    )
