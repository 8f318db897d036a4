"""Kernels that are right, and kernels that are wrong in one way each."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from moeprof.device.protocol import DeviceIdentity
from moeprof.kernel.protocol import Choice
from moeprof.kernel.torch_loop import TorchLoop
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = DeviceIdentity(kind="cpu", name="test CPU", uuid="CPU-check")


@dataclass
class SmallDevice:
    """A CPU whose time stands still unless a work moves it."""

    identity: DeviceIdentity = CPU
    l2_bytes: int = 200_000
    free: int = 10**10
    seconds: float = 0.0
    torch_device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def now(self) -> float:
        return self.seconds

    def free_bytes(self) -> int:
        return self.free

    def translating_errors(self, doing: str) -> Any:
        return nullcontext()

    def prepare(self, work: Any) -> Any:
        return TimedProgram(work, self)


class TimedProgram:
    launches_per_sample = 1

    def __init__(self, work: Any, device: SmallDevice) -> None:
        self._work, self._device = work, device

    def sample(self) -> float:
        before = self._device.seconds
        self._work.launch(0)
        return self._device.seconds - before

    def close(self) -> None:
        pass


class Altered:
    """torch-loop, with something done to its work after every launch."""

    def __init__(
        self,
        after: Callable[[Any, int, int], None] = lambda work, buffer_set, launch: None,
        *,
        name: str = "altered",
        choice: Any = None,
    ) -> None:
        self.name = name
        self._after = after
        self._choice = choice
        self.bound: list[Workload] = []

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        return TorchLoop().refusal(workload, identity)

    def bind(self, workload: Workload, device: Any, **more: Any) -> Any:
        self.bound.append(workload)
        work: Any = TorchLoop().bind(workload, device, **more)
        launch, counts = work.launch, {}

        def launched(buffer_set: int) -> None:
            launch(buffer_set)
            counts[buffer_set] = counts.get(buffer_set, 0) + 1
            self._after(work, buffer_set, counts[buffer_set])

        work.launch = launched
        if self._choice is not None:
            work.choice = self._choice
        return work

    def versions(self) -> dict[str, str]:
        return {"altered": "1"}


def scaled(work: Any, buffer_set: int, launch: int) -> None:
    work.output(buffer_set).mul_(1.3)


def workload(rows: tuple[int, ...] = (1, 2, 0, 1), dtype: str = "fp32") -> Workload:
    layer = MoELayer("l", hidden_size=64, expert_size=48, num_experts=len(rows), top_k=2)
    return Workload("m", layer, dtype, dtype, 4, "given", 0, "none", 1, 0, 1, rows)


class Wrong(Altered):
    def __init__(self) -> None:
        super().__init__(scaled, name="wrong")


class Chosen(Altered):
    def __init__(self) -> None:
        super().__init__(name="chosen", choice=Choice("variant-4", "2.1", "table.json"))


class Bare(Altered):
    def __init__(self) -> None:
        super().__init__(name="bare")

    def bind(self, workload: Any, device: Any, **more: Any) -> Any:
        return BareWork(super().bind(workload, device, **more))


class BareWork:
    num_buffer_sets = 1
    l2_state = "warm"

    def __init__(self, work: Any) -> None:
        self.launch = work.launch
