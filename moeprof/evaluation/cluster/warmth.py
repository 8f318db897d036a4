"""What a die's temperature does to leakage and to the reference's costs, measured or emulated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.thermal import GPUThermal
    from moeprof.evaluation.cluster.clock import Demand
    from moeprof.hardware.physics import Physics

_MOST_EXPONENT: Final = 4.0  # of leakage: e^4 is far over any card's limit


@dataclass(frozen=True, slots=True)
class Warmth:
    """One kind of GPU's answer to its temperature.

    `measured` is what a fitted model knows of it, with the slope of the kernel's log seconds over
    degrees; without it leakage is the physics' and seconds follow the clock alone.
    """

    physics: Physics
    measured: GPUThermal | None
    kernel_slope_per_celsius: float

    @property
    def has_leakage(self) -> bool:
        """Whether leakage over that at the reference is measured."""
        return self.measured is not None and self.measured.leakage_watts_per_celsius is not None

    def leakage_watts(self, celsius: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the watts that leak at a die temperature, shaped as it; they grow with it.

        Where leakage is measured, what is over the physics' at the reference is.
        """
        physics = self.physics
        if self.measured is not None and self.has_leakage:
            over = self.measured.leaked_watts(celsius)
            return np.maximum(physics.leakage_watts + over, 0.0)
        efolds = (celsius - physics.reference_celsius) / physics.leakage_efold_celsius
        found: NDArray[np.float64] = physics.leakage_watts * np.exp(
            np.minimum(efolds, _MOST_EXPONENT)
        )
        return found

    def warmed(
        self, demand: Demand, celsius: NDArray[np.float64], octaves: NDArray[np.float64]
    ) -> Demand:
        """Return the demand at die temperatures that are measured to change it, without leakage.

        The clock is taken to be what it was measured to be at that temperature.
        """
        if self.measured is None:
            return demand
        log_slower, log_hungrier = self.measured.log_factors(
            self.kernel_slope_per_celsius, celsius, np.nan, octaves
        )
        slower, hungrier = np.exp(log_slower), np.exp(log_hungrier)
        return replace(
            demand,
            seconds=demand.seconds * slower,
            steady_watts=demand.steady_watts * hungrier,
            clocked_watts=demand.clocked_watts * hungrier,
            memory_joules=demand.memory_joules * (slower * hungrier),
            compute_joules=demand.compute_joules * (slower * hungrier),
        )
