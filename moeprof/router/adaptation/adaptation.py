"""Everything that marginal-cost routing learns while it runs, turned into its conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moeprof.router.adaptation.dual_ascent import DualAscent, DualAscentSettings
from moeprof.router.adaptation.gpu_factors import GpuFactors, GpuFactorsSettings
from moeprof.router.adaptation.trust import Trust, TrustSettings
from moeprof.router.marginal.conditions import Conditions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AdaptationSettings:
    """What is learnt and how fast; `budget` None: lambda stays what it is."""

    budget: DualAscentSettings | None = None
    factors: GpuFactorsSettings = field(default_factory=GpuFactorsSettings)
    trust: TrustSettings = field(default_factory=TrustSettings)


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What telemetry last told of a layer, [num_seeds, num_gpus] each; NaN where nothing.

    Measured seconds and watts of the experts of one layer, what the cost model expected of the
    same rows, and how old that is.
    """

    layer_seconds: NDArray[np.float64]
    expected_layer_seconds: NDArray[np.float64]
    power_watts: NDArray[np.float64]
    expected_watts: NDArray[np.float64]
    age_seconds: NDArray[np.float64]


class Adaptation:
    """Learns once a step; a server has one seed, a simulation as many as run in lockstep.

    `conditions`, one for each seed, are changed in place, so that routers and dispatchers that hold
    them follow.
    """

    def __init__(
        self,
        settings: AdaptationSettings,
        num_gpus: int,
        *,
        trade: float = 0.0,
        num_seeds: int = 1,
        device: str = "cpu",
    ) -> None:
        self._budget = DualAscent(settings.budget, num_seeds) if settings.budget else None
        self._slowness = GpuFactors(settings.factors, num_gpus, num_seeds)
        self._hunger = GpuFactors(settings.factors, num_gpus, num_seeds)
        self._trust = Trust(settings.trust, num_seeds)
        first = self._budget.value.tolist() if self._budget else [trade] * num_seeds
        self.conditions = tuple(Conditions.of(each, num_gpus, device) for each in first)

    def observe(
        self,
        told: Told | None,
        *,
        measured_seconds: NDArray[np.float64] | None = None,
        expected_seconds: NDArray[np.float64] | None = None,
        gate_mass_fraction: NDArray[np.float64] | None = None,
        loss_difference_nats: NDArray[np.float64] | None = None,
    ) -> None:
        """Learn from the step that has ended.

        `told` is what telemetry says, None where there is none. `measured_seconds`, [num_seeds,
        num_layers], is what the host's own clock saw the slowest rank take, and
        `expected_seconds`, [num_seeds, num_layers, num_gpus], what the cost model expects of the
        rows that were sent: with both, lies are found out. Gate mass and loss, [num_seeds], are
        against plain top-k.
        """
        if told is not None:
            self._slowness.observe(
                told.layer_seconds, told.expected_layer_seconds, told.age_seconds
            )
            self._hunger.observe(told.power_watts, told.expected_watts, told.age_seconds)
            if measured_seconds is not None and expected_seconds is not None:
                self._trust.observe(measured_seconds, expected_seconds, self._slowness.values)
        if self._budget is not None:
            self._budget.observe(
                gate_mass_fraction=gate_mass_fraction, loss_difference_nats=loss_difference_nats
            )
        slowness, hunger = self.slowness, self._trust.tempered(self._hunger.values)
        for seed, conditions in enumerate(self.conditions):
            conditions.learn(
                trade=None if self._budget is None else float(self._budget.value[seed]),
                slowness=slowness[seed],
                hunger=hunger[seed],
            )

    @property
    def slowness(self) -> NDArray[np.float64]:
        """The factors on seconds that are gone by, [num_seeds, num_gpus]."""
        return self._trust.tempered(self._slowness.values)

    @property
    def trust(self) -> NDArray[np.float64]:
        """Whether telemetry is believed, 0 or 1, [num_seeds]."""
        return self._trust.value
