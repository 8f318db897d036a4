"""A pynvml and a torch.cuda that need no GPU."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

UUID = "11111111-2222-3333-4444-555555555555"
ULL, UINT = 3, 1


class FakeNvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return {3: "Not Supported", 6: "Not Found", 9: "Driver Not Loaded"}.get(
            self.value, f"code {self.value}"
        )


class FakeNvml:
    """Behaves as pynvml does for one H200; tests change its `answers` and `field_values`."""

    NVMLError = FakeNvmlError

    def __init__(self) -> None:
        self.known = {f"GPU-{UUID}": "whole"}
        self.answers = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlSystemGetDriverVersion": "580.1",
            "nvmlDeviceGetMigMode": FakeNvmlError(3),
            "nvmlDeviceGetTemperatureV": 61,
            "nvmlDeviceGetTemperature": 62,
            "nvmlDeviceGetClockInfo": {1: 1980, 2: 3201},
            "nvmlDeviceGetPowerUsage": 333_000,
            "nvmlDeviceGetEnforcedPowerLimit": 650_000,
            "nvmlDeviceGetTotalEnergyConsumption": 5_000_000,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x4 | 0x20,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x1,
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": "whole",
        }
        self.field_values = {
            74: (ULL, 3_000_000_000),
            75: (ULL, 500_000_000),
            82: (UINT, 71),
            83: (ULL, 6_000_000),
            185: (UINT, 300_000),
            186: (UINT, 310_000),
            190: (UINT, 700_000),
            269: (ULL, 1_000_000_000),
            270: (ULL, 0),
            271: (ULL, 2_000_000),
        }

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__.get("answers", {}):
            raise AttributeError(name)

        def answer(*arguments: Any) -> Any:
            found = self.answers[name]
            if isinstance(found, dict):
                found = found[arguments[-1]]
            if isinstance(found, Exception):
                raise found
            return found

        return answer

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in self.known:
            raise FakeNvmlError(6)
        return self.known[uuid]

    def nvmlDeviceGetFieldValues(self, handle: str, ids: list[int]) -> list[Any]:  # noqa: N802
        assert handle == "whole"
        return [self._field(field_id) for field_id in ids]

    def _field(self, field_id: int) -> Any:
        found = self.field_values.get(field_id, FakeNvmlError(3))
        if isinstance(found, FakeNvmlError):
            return SimpleNamespace(nvmlReturn=found.value, valueType=0, value=None)
        value_type, value = found
        member = {ULL: "ullVal", UINT: "uiVal"}[value_type]
        union = SimpleNamespace(**{member: value})
        return SimpleNamespace(nvmlReturn=0, valueType=value_type, value=union)


@pytest.fixture
def fake_nvml() -> FakeNvml:
    return FakeNvml()


class FakeCuda:
    """A GPU on which every launch takes `launch_seconds` of virtual time."""

    def __init__(self) -> None:
        self.now = 0.0  # what the GPU has worked
        self.launch_seconds = 2e-5
        self.recording = None
        self.sync_mode = "default"
        self.live_graphs = 0
        self.unfinished = []  # when each replay that nobody waited for ends
        self.deepest_queue = 0
        self.emptied = 0

    def launch(self) -> None:
        if self.recording is None:
            self.now += self.launch_seconds
        else:
            self.recording.launches += 1


class FakeWork:
    """Work that counts, and does on launch what a test wants."""

    l2_state = "cold"

    def __init__(self, cuda: Any, num_buffer_sets: int = 3) -> None:
        self.cuda = cuda
        self.num_buffer_sets = num_buffer_sets
        self.sets = []
        self.on_launch = lambda: None

    def launch(self, buffer_set: int) -> None:
        self.on_launch()
        self.sets.append(buffer_set)
        self.cuda.launch()


def fakes_of(cuda: FakeCuda) -> dict[str, Any]:  # noqa: C901 - four small classes
    """The classes and functions of torch.cuda that act on a FakeCuda."""

    class Graph:
        def __init__(self) -> None:
            self.launches = 0
            cuda.live_graphs += 1

        def replay(self) -> None:
            cuda.now += self.launches * cuda.launch_seconds
            cuda.unfinished.append(cuda.now)
            cuda.deepest_queue = max(cuda.deepest_queue, len(cuda.unfinished))

        def reset(self) -> None:
            cuda.live_graphs -= 1

    class Event:
        def __init__(self, *, enable_timing: bool = False) -> None:
            self.at = None

        def record(self) -> None:
            self.at = cuda.now

        def synchronize(self) -> None:
            cuda.unfinished = [end for end in cuda.unfinished if end > self.at]

        def elapsed_time(self, other: Any) -> float:
            return (other.at - self.at) * 1e3

    class Stream:
        def __init__(self, device: Any) -> None:
            self.device = device

        def synchronize(self) -> None:
            cuda.unfinished = []

    @contextmanager
    def graph(recorded: Any, *, stream: Any, capture_error_mode: str) -> Iterator[None]:
        cuda.recording = recorded
        try:
            yield
        finally:
            cuda.recording = None

    return {"CUDAGraph": Graph, "Event": Event, "Stream": Stream, "graph": graph}


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    cuda = FakeCuda()
    replaced = {
        **fakes_of(cuda),
        "stream": lambda stream: nullcontext(),
        "synchronize": lambda device=None: None,
        "set_sync_debug_mode": lambda mode: setattr(cuda, "sync_mode", mode),
        "empty_cache": lambda: setattr(cuda, "emptied", cuda.emptied + 1),
        "get_device_properties": lambda device: SimpleNamespace(
            name="NVIDIA H200", uuid=UUID, major=9, minor=0, L2_cache_size=62_914_560
        ),
        "mem_get_info": lambda device: (100, 1000),
        "memory_reserved": lambda device: 30,
        "memory_allocated": lambda device: 10,
    }
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return cuda


@pytest.fixture
def fake_work(fake_cuda: Any) -> FakeWork:
    return FakeWork(fake_cuda)
