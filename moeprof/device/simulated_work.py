"""What a simulated device is told of a launch in place of data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moeprof.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class SimulatedWork:
    """The workload and kernel name that a simulated device prices instead of running."""

    workload: Workload
    kernel: str
    l2_state: str
    num_buffer_sets: int = 1

    def launch(self, buffer_set: int) -> None:
        """Refuse: there is no data behind simulated work, only a price."""
        msg = f"simulated work has no data to launch (buffer set {buffer_set})"
        raise AssertionError(msg)
