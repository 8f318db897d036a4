"""What is made to go wrong with a simulated GPU, for tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Faults:
    """The moments, on the device's own time line, at which something fails for good."""

    lost_at_seconds: float | None = None
    sensors_fail_at_seconds: float | None = None
    energy_counter_absent: bool = False


NO_FAULTS = Faults()
