"""The figures of all GPUs of all seeds: as they are, and as a router reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moeprof.router.telemetry import GpuReading, Telemetry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Those that are measured come first: a count of bytes and a model's answer have no noise.
FIGURES: Final = (
    "die_celsius",
    "sm_clock_hertz",
    "power_watts",
    "layer_seconds",
    "expected_layer_seconds",
    "expected_watts",
    "free_bytes",
)
NUM_MEASURED: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Truths:
    """What is true of every GPU after a layer, each [num_seeds, num_gpus]; NaN: there is none.

    `expected_layer_seconds` and `expected_watts` are the cost model's answers for the rows that
    the GPU had; it knows neither the GPU's speed nor its temperature. `power_watts` and
    `expected_watts` are those of its work, over what it draws while it waits.
    """

    die_celsius: NDArray[np.float64]
    sm_clock_hertz: NDArray[np.float64]
    power_watts: NDArray[np.float64]
    layer_seconds: NDArray[np.float64]
    expected_layer_seconds: NDArray[np.float64]
    expected_watts: NDArray[np.float64]
    free_bytes: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What a router reads, each [num_seeds, num_gpus]; NaN: not told.

    Ages are those of the reading as its time stamp has it. Where a GPU has told nothing at all,
    they too are NaN. The arrays are not to be written to.
    """

    age_seconds: NDArray[np.float64]
    age_layers: NDArray[np.float64]
    die_celsius: NDArray[np.float64]
    sm_clock_hertz: NDArray[np.float64]
    power_watts: NDArray[np.float64]
    layer_seconds: NDArray[np.float64]
    expected_layer_seconds: NDArray[np.float64]
    expected_watts: NDArray[np.float64]
    free_bytes: NDArray[np.float64]

    def telemetry(self, seed: int) -> Telemetry:
        """Return the readings of the seed in place `seed`; a GPU that told nothing has none."""
        told = []
        for rank, age_seconds in enumerate(self.age_seconds[seed].tolist()):
            if math.isnan(age_seconds):
                continue
            found = {name: _told(getattr(self, name)[seed, rank]) for name in FIGURES}
            free_bytes = found.pop("free_bytes")
            told.append(
                GpuReading(
                    rank,
                    age_seconds,
                    **found,
                    free_bytes=None if free_bytes is None else int(free_bytes),
                )
            )
        return Telemetry(tuple(told))


def _told(figure: np.float64) -> float | None:
    return None if math.isnan(figure) else float(figure)
