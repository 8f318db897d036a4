"""What a sweep tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from moeprof.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.device.protocol import DeviceIdentity
    from moeprof.record import DeviceState, Interval, Outcome
    from moeprof.sweep.plan import Entry
    from moeprof.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class SweepStarted:
    """A sweep has opened its dataset and knows what is left to do."""

    recipe_name: str
    description: str
    out: Path
    run_id: str
    device: DeviceIdentity
    num_points: int
    num_finished: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a sweep is just now; `interval` is of the running point's median latency, seconds."""

    phase: str
    done_fraction: float | None = None
    entry: Entry | None = None
    workload: Workload | None = None
    state: DeviceState | None = None
    interval: Interval | None = None
    remaining_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PointFinished:
    """One workload has been measured, for one or more ranks that share it."""

    entry: Entry
    workload: Workload
    num_ranks: int
    outcome: Outcome
    seconds: float


@dataclass(frozen=True, slots=True)
class SweepEnded:
    """What a sweep came to; `wall_seconds` are on the device's time line."""

    out: Path
    run_id: str
    num_points: int
    num_measured: int
    num_skipped: int
    statuses: dict[str, int]
    overhead_fraction: float | None
    wall_seconds: float
    sentinel_drift_fraction: float | None
    sentinel_spread_fraction: float | None
    interrupted: bool = False
    lost: str | None = None
    spent_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that a sweep with this end deserves."""
        if self.lost is not None:
            return ExitCode.DEVICE
        return ExitCode.INTERRUPTED if self.interrupted else ExitCode.DONE


class Observer(Protocol):
    """Whoever watches a sweep: a live panel, plain lines, a test."""

    def started(self, event: SweepStarted) -> None:
        """Hear what the sweep is about to do."""

    def progressed(self, event: Progress) -> None:
        """Hear where it is; called often, so it must be quick."""

    def finished(self, event: PointFinished) -> None:
        """Hear the outcome of one workload; sentinels too."""

    def ended(self, event: SweepEnded) -> None:
        """Hear what it came to."""
