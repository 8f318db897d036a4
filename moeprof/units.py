"""Conversions between vendors' units and SI base units, for use at the vendor border only."""

from __future__ import annotations


def seconds_from_ms(milliseconds: float) -> float:
    """Return seconds for milliseconds, the unit of CUDA events."""
    return milliseconds * 1e-3


def watts_from_mw(milliwatts: float) -> float:
    """Return watts for milliwatts, the unit of NVML power readings."""
    return milliwatts * 1e-3


def joules_from_mj(millijoules: float) -> float:
    """Return joules for millijoules, the unit of the NVML energy counter."""
    return millijoules * 1e-3


def joules_from_uj(microjoules: float) -> float:
    """Return joules for microjoules, the unit of the Linux powercap (RAPL) counters."""
    return microjoules * 1e-6


def hertz_from_mhz(megahertz: float) -> float:
    """Return hertz for megahertz, the unit of NVML clocks and of /proc/cpuinfo."""
    return megahertz * 1e6


def hertz_from_khz(kilohertz: float) -> float:
    """Return hertz for kilohertz, the unit of Linux cpufreq."""
    return kilohertz * 1e3


def celsius_from_millicelsius(millicelsius: float) -> float:
    """Return degrees Celsius for thousandths of them, the unit of Linux hwmon and thermal zones."""
    return millicelsius * 1e-3


def seconds_from_us(microseconds: float) -> float:
    """Return seconds for microseconds, the unit of NVML violation counters' reference time."""
    return microseconds * 1e-6


def seconds_from_ns(nanoseconds: float) -> float:
    """Return seconds for nanoseconds, the unit of NVML violation times."""
    return nanoseconds * 1e-9
