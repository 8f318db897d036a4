"""Kernels and programs with scripted samples on a device in virtual time."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fakes import FakeDevice

from moeprof.device.protocol import Ceilings, DeviceIdentity
from moeprof.kernel.protocol import NO_CHOICE, Choice
from moeprof.workload.layer import MoELayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAYER = MoELayer(name="layer", hidden_size=2048, expert_size=1024, num_experts=8, top_k=2)


@dataclass
class ScriptedWork:
    """Work whose `seconds` are what each sample takes."""

    seconds: Callable[[], float]
    l2_state: str = "cold"
    num_buffer_sets: int = 1
    choice: Choice = NO_CHOICE
    closed: bool = False
    taken: list[str] = field(default_factory=list)

    def launch(self, buffer_set: int) -> None:
        raise AssertionError


@dataclass
class ScriptedKernel:
    name: str
    seconds: Callable[[], float]
    refuses: str | None = None
    bind_error: Exception | None = None
    l2_state: str = "cold"
    choice: Choice = NO_CHOICE

    def refusal(self, workload: Any, identity: Any) -> str | None:
        return self.refuses

    def bind(self, workload: Any, device: Any, *, l2_state: str, seed: int) -> ScriptedWork:
        if self.bind_error is not None:
            raise self.bind_error
        return ScriptedWork(self.seconds, self.l2_state, choice=self.choice)

    def versions(self) -> dict[str, str]:
        return {self.name: "1"}


@dataclass
class ScriptedProgram:
    device: ScriptedDevice
    work: ScriptedWork
    launches_per_sample: int = 1

    def sample(self) -> float:
        seconds = self.work.seconds()
        self.device.pass_time(seconds, loaded=True)
        return seconds

    def run(self, seconds: float) -> int:
        self.device.pass_time(seconds, loaded=True)
        return 1

    def close(self) -> None:
        self.work.closed = True
        self.device.num_open -= 1


@dataclass
class ScriptedDevice(FakeDevice):
    """Reads `ceiling_bytes_per_second`; counts programs that are open."""

    ceiling_bytes_per_second: float = 1e12
    num_open: int = 0
    identity: DeviceIdentity = field(
        default_factory=lambda: DeviceIdentity("cpu", "a scripted device", "scripted-0")
    )

    def ceilings(self, dtype: str) -> Ceilings | None:
        return Ceilings(self.ceiling_bytes_per_second, 1e12, "measured")

    @contextmanager
    def translating_errors(self, doing: str) -> Iterator[None]:
        yield

    def prepare(self, work: Any) -> ScriptedProgram:  # type: ignore[override]
        self.num_open += 1
        return ScriptedProgram(self, work)
