"""Which samples are not kept, each for a named reason."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moeprof.conditioning.settings import HoldSettings
    from moeprof.record import Sample

NO_LATENCY = "the latency is not a positive number"
NO_TEMPERATURE = "no die temperature was read while one is held"
OFF_TEMPERATURE = "the die was outside the tolerance of the hold"


def rejection(sample: Sample, hold: HoldSettings | None) -> str | None:
    """Return why a sample is not kept, or None if it is; throttled samples are kept."""
    if not 0 < sample.latency_seconds < math.inf:
        return NO_LATENCY
    if hold is None or hold.hold_celsius is None:
        return None
    if sample.die_celsius is None:
        return NO_TEMPERATURE
    if abs(sample.die_celsius - hold.hold_celsius) > hold.tolerance_celsius:
        return OFF_TEMPERATURE
    return None
