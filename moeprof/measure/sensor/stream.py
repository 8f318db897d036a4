"""What a sensor said over time beside the load it was said of, polled or recorded alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Quantity(StrEnum):
    """What a sensor counts: power, or energy since some moment."""

    POWER = "watts"
    ENERGY = "joules"


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of time under continuous load; `num_launches` is None where nobody counted."""

    start_seconds: float
    end_seconds: float
    num_launches: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SensorStream:
    """Readings of one sensor: `values` [num_reads], in watts or joules, at rising `at_seconds`.

    Failed reads are left out.
    """

    name: str
    quantity: Quantity
    at_seconds: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recording:
    """Streams on one time line, and when the device was loaded; None: that is not known.

    `is_paused`: the device idled while it was read, so no stretch of load is longer than a poll.
    """

    streams: tuple[SensorStream, ...]
    phases: tuple[Phase, ...] | None
    is_paused: bool = False


@dataclass(frozen=True, slots=True)
class Unclear:
    """Why something cannot be told from a stream."""

    reason: str
