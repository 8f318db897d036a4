from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

import pytest

from moeprof.device import cpu_sensors
from moeprof.device.cpu import CpuDevice, CpuProgram
from moeprof.device.rapl import open_rapl
from moeprof.errors import DeviceOutOfMemory

if TYPE_CHECKING:
    from pathlib import Path


class TickingWork:
    """Every launch takes `seconds` of the clock that it is."""

    l2_state = "cold"

    def __init__(self, seconds: float, num_buffer_sets: int = 3) -> None:
        self.seconds, self.num_buffer_sets = seconds, num_buffer_sets
        self.now, self.sets = 0.0, []

    def launch(self, buffer_set: int) -> None:
        self.now += self.seconds
        self.sets.append(buffer_set)

    def clock(self) -> float:
        return self.now


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def package(
    root: Path, number: Any, *, joules: int, name: str | None = None, maximum: int = 1000
) -> None:
    folder = f"intel-rapl:{number}"
    write(root, f"{folder}/name", f"{name or f'package-{number}'}\n")
    write(root, f"{folder}/max_energy_range_uj", f"{maximum}\n")
    write(root, f"{folder}/energy_uj", f"{joules}\n")


def test_short_launches_are_gathered_into_a_millisecond() -> None:
    work = TickingWork(1e-4)
    program = CpuProgram(work, work.clock)

    assert program.launches_per_sample == pytest.approx(10, abs=1)
    assert program.sample() == pytest.approx(1e-4)


def test_a_long_launch_is_a_sample_of_its_own() -> None:
    work = TickingWork(0.5)

    assert CpuProgram(work, work.clock).launches_per_sample == 1


def test_launches_rotate_across_samples() -> None:
    work = TickingWork(4e-4)
    program = CpuProgram(work, work.clock)
    for _ in range(4):
        program.sample()

    assert work.sets == [launch % 3 for launch in range(len(work.sets))]


def test_run_returns_the_launches_it_made() -> None:
    work = TickingWork(1e-4)
    program = CpuProgram(work, work.clock)
    before = len(work.sets)

    launches = program.run(0.02)

    assert launches == len(work.sets) - before
    assert launches * 1e-4 == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 bytes")]
)
def test_a_failed_allocation_has_a_name(error: Exception) -> None:
    work = TickingWork(1e-4)
    program = CpuProgram(work, work.clock)

    def fail(buffer_set: int) -> Never:
        raise error

    work.launch = fail
    with pytest.raises(DeviceOutOfMemory):
        program.sample()


def test_ceilings_are_measured_for_what_torch_multiplies() -> None:
    device = CpuDevice()
    device.l2_bytes = 2**20

    ceilings = device.ceilings("fp32")

    assert ceilings.source == "measured"
    assert 1e8 < ceilings.bytes_per_second < 1e13
    assert 1e8 < ceilings.flops_per_second < 1e15
    assert device.ceilings("fp8") is None


def test_every_sensor_is_a_value_or_a_reason() -> None:
    device = CpuDevice()
    state = device.state()

    for name in ("die_celsius", "sm_clock_hertz", "watts", "memory_celsius", "clock_events"):
        assert (getattr(state, name) is None) == (name in state.absent)
    assert (device.energy_counter is None) == (device.energy_absent_reason is not None)
    assert device.snapshot() is None
    with pytest.raises(AssertionError):
        device.restore({})


def test_the_uuid_is_stable_and_hides_the_machine_id(tmp_path: Path) -> None:
    write(tmp_path, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")

    uuid = cpu_sensors.cpu_uuid("some CPU", tmp_path)

    assert uuid == cpu_sensors.cpu_uuid("some CPU", tmp_path)
    assert "0123456789abcdef" not in uuid


def test_last_level_caches_are_summed_over_sockets(tmp_path: Path) -> None:
    for cpu, socket in ((0, "0-1"), (1, "0-1"), (2, "2-3")):
        folder = f"sys/devices/system/cpu/cpu{cpu}/cache"
        for index, (level, size, shared) in enumerate(
            ((1, "32K", str(cpu)), (2, "1M", str(cpu)), (3, "36608K", socket))
        ):
            write(tmp_path, f"{folder}/index{index}/level", f"{level}\n")
            write(tmp_path, f"{folder}/index{index}/size", f"{size}\n")
            write(tmp_path, f"{folder}/index{index}/shared_cpu_list", f"{shared}\n")

    assert cpu_sensors.last_level_cache_bytes(tmp_path) == 2 * 36608 * 1024


def test_an_unknown_cache_is_taken_for_a_large_one(tmp_path: Path) -> None:
    assert cpu_sensors.last_level_cache_bytes(tmp_path) == cpu_sensors.FALLBACK_CACHE_BYTES


def test_free_memory_respects_a_containers_limit(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemFree: 1 kB\nMemAvailable:   2000 kB\n")
    assert cpu_sensors.free_bytes(tmp_path) == 2_048_000

    write(tmp_path, "sys/fs/cgroup/memory.max", "1000000\n")
    write(tmp_path, "sys/fs/cgroup/memory.current", "400000\n")
    assert cpu_sensors.free_bytes(tmp_path) == 600_000


def test_temperature_is_the_hottest_cpu_sensor(tmp_path: Path) -> None:
    assert cpu_sensors.die_celsius(tmp_path)[0] is None

    write(tmp_path, "sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "40000\n")
    assert cpu_sensors.die_celsius(tmp_path) == (40.0, None)

    write(tmp_path, "sys/class/hwmon/hwmon0/name", "nvme\n")
    write(tmp_path, "sys/class/hwmon/hwmon0/temp1_input", "99000\n")
    write(tmp_path, "sys/class/hwmon/hwmon1/name", "coretemp\n")
    write(tmp_path, "sys/class/hwmon/hwmon1/temp1_input", "51000\n")
    write(tmp_path, "sys/class/hwmon/hwmon1/temp2_input", "53500\n")
    assert cpu_sensors.die_celsius(tmp_path) == (53.5, None)


def test_the_clock_of_a_virtual_machine_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "cpu MHz\t\t: 2000.0\ncpu MHz\t\t: 3000.0\nflags\t\t: fpu\n")
    assert cpu_sensors.clock_hertz(tmp_path) == (2.5e9, None)

    write(tmp_path, "proc/cpuinfo", "cpu MHz\t\t: 2500.0\nflags\t\t: fpu hypervisor sse\n")
    assert cpu_sensors.clock_hertz(tmp_path)[0] is None

    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1800000\n")
    assert cpu_sensors.clock_hertz(tmp_path) == (1.8e9, None)


def test_rapl_sums_packages_and_survives_a_wrap(tmp_path: Path) -> None:
    package(tmp_path, 0, joules=100)
    package(tmp_path, 1, joules=990)
    package(tmp_path, 2, joules=5, name="psys")
    package(tmp_path, "0:0", joules=7, name="core")

    counter, reason = open_rapl(tmp_path)
    assert reason is None
    assert counter.read() == 0

    package(tmp_path, 0, joules=130)
    package(tmp_path, 1, joules=9)
    package(tmp_path, 2, joules=900, name="psys")
    assert counter.read() == pytest.approx(50e-6)


def test_rapl_that_fails_in_between_is_none_for_that_read(tmp_path: Path) -> None:
    package(tmp_path, 0, joules=100)
    counter, _ = open_rapl(tmp_path)

    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    assert counter.read() is None

    package(tmp_path, 0, joules=160)
    assert counter.read() == pytest.approx(60e-6)


def test_rapl_for_root_only_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, 0, joules=100)
    read = type(tmp_path).read_text

    def deny(path: str, *args: Any, **kwargs: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *args, **kwargs)

    monkeypatch.setattr(type(tmp_path), "read_text", deny)
    counter, reason = open_rapl(tmp_path)

    assert counter is None
    assert "sudo chmod a+r" in reason


def test_no_rapl_is_a_reason(tmp_path: Path) -> None:
    assert open_rapl(tmp_path)[0] is None
    assert "no RAPL" in open_rapl(tmp_path)[1]
