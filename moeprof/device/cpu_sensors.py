"""What Linux tells about the CPU: its name, caches, free memory, temperature and clock."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from pathlib import Path

from moeprof.units import celsius_from_millicelsius, hertz_from_khz, hertz_from_mhz

ROOT = Path("/")
# Where the cache size cannot be read: as much as the last-level cache of a large server part.
FALLBACK_CACHE_BYTES = 64 * 2**20

_HWMON_DRIVERS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
_ZONE_TYPES = ("x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc_thermal")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def cpu_name(root: Path = ROOT) -> str:
    """Return the model name and the number of CPUs this process may run on."""
    model = re.search(r"^model name\s*:\s*(.+)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    name = model[1].strip() if model else platform.processor() or platform.machine()
    return f"{name} ({_num_cpus()} CPUs)"


def cpu_uuid(name: str, root: Path = ROOT) -> str:
    """Return a stable identifier of this CPU; the machine id cannot be told from it."""
    machine = _read(root / "etc/machine-id").strip() or platform.node()
    return "CPU-" + hashlib.sha256(f"moeprof {machine} {name}".encode()).hexdigest()[:32]


def last_level_cache_bytes(root: Path = ROOT) -> int:
    """Return the bytes of all last-level caches together, FALLBACK_CACHE_BYTES where unknown."""
    found: dict[int, dict[str, int]] = {}
    for index in root.glob("sys/devices/system/cpu/cpu[0-9]*/cache/index*"):
        size = re.fullmatch(r"(\d+)([KMG]?)", _read(index / "size").strip())
        level, shared = _read(index / "level").strip(), _read(index / "shared_cpu_list").strip()
        if size and level.isdigit() and shared:
            found.setdefault(int(level), {})[shared] = int(size[1]) * _UNITS[size[2]]
    return sum(found[max(found)].values()) if found else FALLBACK_CACHE_BYTES


def free_bytes(root: Path = ROOT) -> int:
    """Return the bytes that a process may still allocate before the machine swaps or kills.

    0 where the machine does not tell: better no allocation than one too many.
    """
    available = re.search(r"^MemAvailable:\s+(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    if available:
        machine = int(available[1]) * 2**10
    elif "SC_AVPHYS_PAGES" in os.sysconf_names:
        machine = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    elif "SC_PHYS_PAGES" in os.sysconf_names:  # macOS: how much is free is not told, half is safe
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    else:
        machine = 0
    limit = _read(root / "sys/fs/cgroup/memory.max").strip()
    used = _read(root / "sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():  # a container's own limit
        return max(0, min(machine, int(limit) - int(used)))
    return machine


def die_celsius(root: Path = ROOT) -> tuple[float | None, str | None]:
    """Return the hottest CPU sensor, or None and the reason."""
    found = [
        sensor
        for chip in root.glob("sys/class/hwmon/hwmon*")
        if _read(chip / "name").strip() in _HWMON_DRIVERS
        for sensor in chip.glob("temp*_input")
    ] or [
        zone / "temp"
        for zone in root.glob("sys/class/thermal/thermal_zone*")
        if _read(zone / "type").strip() in _ZONE_TYPES
    ]
    values = [float(text) for sensor in found if (text := _read(sensor).strip())]
    if not values:
        return None, "no CPU sensor in hwmon or thermal zones (usual in a virtual machine)"
    return celsius_from_millicelsius(max(values)), None


def clock_hertz(root: Path = ROOT) -> tuple[float | None, str | None]:
    """Return the mean clock of all CPUs, or None and the reason."""
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [hertz_from_khz(float(text)) for file in files if (text := _read(file).strip())]
    if not clocks:
        # A hypervisor shows a constant here, which is the nominal clock and no measurement.
        cpuinfo = _read(root / "proc/cpuinfo")
        if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE):
            return None, "no cpufreq, and a hypervisor hides the real clock"
        mhz = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.MULTILINE)
        clocks = [hertz_from_mhz(float(text)) for text in mhz]
    if not clocks:
        return None, "neither cpufreq nor /proc/cpuinfo tells the clock"
    return sum(clocks) / len(clocks), None


def _num_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read(path: Path) -> str:
    """Return a file's text; a file that is missing or unreadable has none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
