"""What GPUs last told of themselves: late, maybe wrong, and possibly nothing at all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuReading:
    """The last word of one GPU of an expert-parallel group; None is what it did not tell."""

    rank: int
    age_seconds: float | None = None
    """How long ago the reading was taken, as the router that reads it sees."""
    die_celsius: float | None = None
    sm_clock_hertz: float | None = None
    power_watts: float | None = None
    """What its work draws, over what it draws while it waits: that burns whatever it does."""
    layer_seconds: float | None = None
    """How long the GPU's experts of one MoE layer took, the last time they were timed."""
    free_bytes: int | None = None
    """Memory that is free."""
    expected_layer_seconds: float | None = None
    """What the GPU's own copy of the cost model expected for the rows of `layer_seconds`."""
    expected_watts: float | None = None
    """What the GPU's own copy of the cost model expected of `power_watts` with these rows."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The last readings of a group of GPUs, at most one per rank."""

    readings: tuple[GpuReading, ...] = ()

    def of_rank(self, rank: int) -> GpuReading | None:
        """Return the reading of one rank, None where it told nothing."""
        return next((reading for reading in self.readings if reading.rank == rank), None)
