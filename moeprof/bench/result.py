"""What a bench finds: a row for every kernel at every point, and which is faster."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from moeprof.kernel.protocol import NO_CHOICE

if TYPE_CHECKING:
    from moeprof.device.protocol import DeviceIdentity
    from moeprof.kernel.protocol import Choice
    from moeprof.record import Interval
    from moeprof.workload.workload import Workload

# Memory cannot be read faster than it can be read: above this, the timing or the cache lies.
POSSIBLE_FRACTION: Final = 1.02


class RowStatus(StrEnum):
    """How a kernel's turn at a point ended."""

    OK = "ok"
    IMPOSSIBLE = "impossible"  # more of the ceiling than there is
    UNSUPPORTED = "unsupported"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"  # its check, or with an error


class Verdict(StrEnum):
    """What a paired interval says of two kernels."""

    FASTER = "faster"
    SLOWER = "slower"
    UNDECIDED = "cannot tell"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The speed that bandwidths are held against, in bytes per second; `source` is who measured.

    `read-only kernel`: moeprof's, interleaved with the kernels; `measured`: the device's own
    reading of memory, before the point; `datasheet`: the vendor's peak, which no kernel reaches.
    """

    bytes_per_second: float
    source: str


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One kernel at one point; None is what was not measured, `detail` says why.

    `latency` is the median in seconds per launch; `bandwidth_fraction` that of touched bytes per
    second in the ceiling; `samples` are seconds per launch, by round.
    """

    kernel: str
    status: RowStatus
    detail: str | None = None
    latency: Interval | None = None
    bytes_per_second: float | None = None
    bandwidth_fraction: Interval | None = None
    l2_state: str | None = None
    choice: Choice = NO_CHOICE
    samples: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of `kernel` over those of `other`, from pairs of samples of the same round."""

    kernel: str
    other: str
    ratio: Interval
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class BenchPoint:
    """One workload, with all kernels; `ceiling` is None where it is not known."""

    workload: Workload
    ceiling: Ceiling | None
    rows: tuple[BenchRow, ...]
    comparisons: tuple[Comparison, ...]
    die_celsius: float | None = None
    sm_clock_hertz: float | None = None

    @property
    def touched_bytes(self) -> int:
        """Bytes that a kernel must move: active weights once, activations in and out."""
        return touched_bytes(self.workload)

    @property
    def fastest(self) -> BenchRow | None:
        """The row with the least median, None where nothing was timed."""
        timed = [row for row in self.rows if row.latency is not None]
        return min(timed, key=lambda row: row.latency.estimate if row.latency else 0, default=None)

    def comparison(self, kernel: str, other: str) -> Comparison | None:
        """Return how the two compare, None where one of them was not timed beside the other."""
        for each in self.comparisons:
            if (each.kernel, each.other) == (kernel, other):
                return each
        return None


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All points of a bench; those not reached are `left_out`, `lost` says if the device went.

    `no_ceiling_reason` is why a GPU's read-only kernel was not there to compare with.
    """

    device: DeviceIdentity
    points: tuple[BenchPoint, ...]
    left_out: tuple[Workload, ...]
    wall_seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    lost: str | None = None
    no_ceiling_reason: str | None = None


def touched_bytes(workload: Workload) -> int:
    """Return the bytes that any kernel must move for a workload."""
    return workload.weight_bytes + workload.activation_bytes
