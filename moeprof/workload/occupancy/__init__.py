"""How a rank's rows fall on its experts: exact where counted, else an expectation."""

from __future__ import annotations

from moeprof.workload.occupancy.counts import (
    TILE_ROWS,
    Occupancy,
    occupancy_of_rows,
    spread_occupancy,
)
from moeprof.workload.occupancy.expected import expected_occupancy

__all__ = [
    "TILE_ROWS",
    "Occupancy",
    "expected_occupancy",
    "occupancy_of_rows",
    "spread_occupancy",
]
