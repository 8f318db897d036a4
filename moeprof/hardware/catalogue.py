"""The GPUs that moeprof knows by name, by device name, or reads from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeprof import sourced
from moeprof.errors import HardwareError
from moeprof.hardware.gpu import GPU, Link
from moeprof.resources import data_folder
from moeprof.sourced import Kind

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED = {
    "device_names": Kind.TEXTS,
    "peak_flops_per_second.bf16": Kind.NUMBER,
    "memory_bytes_per_second": Kind.NUMBER,
    "memory_bytes": Kind.COUNT,
}
OPTIONAL = {
    "peak_flops_per_second.fp16": Kind.NUMBER,
    "peak_flops_per_second.fp8": Kind.NUMBER,
    "peak_flops_per_second.fp4": Kind.NUMBER,
    "peak_flops_per_second.fp32": Kind.NUMBER,
    "l2_bytes": Kind.COUNT,
    "power_limit_watts": Kind.NUMBER,
    "num_sms": Kind.COUNT,
    "shared_bytes_per_sm": Kind.COUNT,
    "sm_clock_hertz_max": Kind.NUMBER,
    "memory_clock_hertz": Kind.NUMBER,
    "scale_up.name": Kind.TEXT,
    "scale_up.bytes_per_second": Kind.NUMBER,
    "scale_out.name": Kind.TEXT,
    "scale_out.bytes_per_second": Kind.NUMBER,
    "achievable_flops_fraction": Kind.NUMBER,
    "achievable_bandwidth_fraction": Kind.NUMBER,
    "slowdown_celsius": Kind.NUMBER,
    "max_operating_celsius": Kind.NUMBER,
    "clock_fraction_per_celsius": Kind.NUMBER,
    "lowest_clock_fraction": Kind.NUMBER,
    "clocked_memory_fraction": Kind.NUMBER,
    "idle_watts": Kind.NUMBER,
    "busy_watts": Kind.NUMBER,
    "leakage_watts": Kind.NUMBER,
    "leakage_efold_celsius": Kind.NUMBER,
    "joules_per_byte": Kind.NUMBER,
    "die_celsius_per_watt": Kind.NUMBER,
    "heatsink_celsius_per_watt": Kind.NUMBER,
}


def folder() -> Path:
    """Return the folder of the GPU files."""
    return data_folder() / "gpus"


def gpu_names() -> tuple[str, ...]:
    """Return the names of the GPUs in the catalogue, sorted."""
    return sourced.names(folder())


def gpu(name: str) -> GPU:
    """Return one GPU, by its name in the catalogue or by the path of a file ending in .toml.

    Raises:
        HardwareError: there is no such GPU, or its specification is impossible.
        CatalogueError: its file is malformed or a number in it has no source.

    """
    stem, path = sourced.find(name, folder(), noun="GPU", error=HardwareError)
    found = sourced.read(path, required=REQUIRED, optional=OPTIONAL)
    plain = {key: value for key, value in found.values.items() if "." not in key}
    try:
        return GPU(
            name=stem,
            peak_flops_per_second=found.under("peak_flops_per_second"),
            scale_up=_link("scale_up", found.under("scale_up")),
            scale_out=_link("scale_out", found.under("scale_out")),
            **plain,
        )
    except HardwareError as error:
        message = f"{path}: {error.message}"
        raise HardwareError(message, hint=error.hint) from error


def gpu_of_device(device_name: str) -> GPU | None:
    """Return the GPU that NVML or torch reports by this name; None: not in the catalogue."""
    for name in gpu_names():
        candidate = gpu(name)
        if device_name in candidate.device_names:
            return candidate
    return None


def _link(table: str, values: dict[str, Any]) -> Link | None:
    if not values:
        return None
    if values.keys() != {"name", "bytes_per_second"}:
        message = f"{table} must have a name and bytes_per_second, got {', '.join(values)}"
        raise HardwareError(message, hint=f"Complete [{table}], or leave it out.")
    return Link(**values)
