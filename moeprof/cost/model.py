"""The fitted cost model: seconds and joules of decode steps, with intervals and a breakdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.contexts import contexts_of
from moeprof.cost.intervals import DECODE_TOKENS, bounds
from moeprof.cost.part_model import joined_parts
from moeprof.cost.terms import Part, term_seconds
from moeprof.cost.watt_terms import WATT_SHARES, limit_watts, watt_contexts, watt_terms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from moeprof.cost.contexts import Contexts
    from moeprof.cost.intervals import Band
    from moeprof.cost.part_model import PartModel
    from moeprof.cost.points import Points
    from moeprof.cost.provenance import Provenance
    from moeprof.cost.thermal import Thermal

_LEAST_FRACTION = 0.01  # of the power limit: below what any card draws that is switched on
_KEPT_BITS = 24  # of a prediction: the rest may differ between two machines and their libraries


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Predicted costs and the ends of their 90 % intervals, each [num_points], in one unit.

    `extrapolating`, [num_points], is true outside of what was measured: another layer, kernel or
    GPU, or batch sizes above or below all that were.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    extrapolating: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CostModel:
    """Seconds and joules of one MoE layer on one rank as a function of what the step has to do.

    Seconds are launch overhead + sqrt(chain^2 + weights^2 + compute^2) of terms that grow with
    active experts, rows and the fullest expert; their coefficients depend on layer, kernel, GPU
    and parallelism, through a network; what is left over at measured points is carried to their
    neighbours in batch size. `watts` is None where the data had no power, `thermal` where they
    did not have temperatures that differ.
    """

    latency: PartModel
    watts: PartModel | None
    energy_bands: tuple[Band, ...]
    thermal: Thermal | None
    provenance: Provenance

    def seconds(self, points: Points) -> Prediction:
        """Return the time of one step at each point, in seconds."""
        contexts = contexts_of(points)
        reaches = self.latency.reaches(points, contexts)
        value = self._seconds(points, contexts)
        low, high = self.latency.bounds(points, contexts, reaches)
        return _prediction(value, low, high, reaches.extrapolating)

    def average_watts(self, points: Points) -> Prediction | None:
        """Return the average power at each point, in watts; None: the data had no power."""
        if self.watts is None:
            return None
        contexts = contexts_of(points)
        reaches = self.watts.reaches(points, contexts)
        value = self._watts(points, contexts, self._seconds(points, contexts))
        low, high = self.watts.bounds(points, contexts, reaches)
        return _prediction(value, low, high, reaches.extrapolating)

    def joules(self, points: Points) -> Prediction | None:
        """Return the energy of one step at each point, in joules; None: the data had no power."""
        if self.watts is None:
            return None
        contexts = contexts_of(points)
        reaches = self.watts.reaches(points, contexts)
        seconds = self._seconds(points, contexts)
        value = self._watts(points, contexts, seconds) * seconds
        decode = points.batch_size <= DECODE_TOKENS
        low, high = bounds(self.energy_bands, reaches, decode)
        spread = np.hypot(self.latency.spread(contexts), self.watts.spread(contexts))
        low, high = np.where(spread > 0, -spread, low), np.where(spread > 0, spread, high)
        return _prediction(value, low, high, reaches.extrapolating)

    def breakdown(self, points: Points) -> Mapping[str, NDArray[np.float64]]:
        """Return what seconds and joules are made of, each [num_points].

        `launch_seconds`, `chain_seconds`, `weights_seconds` and `compute_seconds`: the first adds,
        the others join as the root of their squares, and `correction_ratio` multiplies all. With
        power, `rest_joules`, `weights_joules`, `activations_joules`, `compute_joules` and
        `launch_joules` add up to the energy.

        Where temperature is identified there are `thermal_seconds`, to be added last, and, with
        power, `leakage_joules`, one more summand: what a die and a clock other than the reference
        cost; below 0 where they save.
        """
        contexts = contexts_of(points)
        parts = self.latency.part_costs(contexts, term_seconds(points))
        found = {f"{part.name.lower()}_seconds": parts[:, part] for part in Part}
        seconds = self._seconds(points, contexts)
        reference = self._at_reference(points, seconds)
        found["correction_ratio"] = reference / joined_parts(parts)
        if self.thermal is not None:
            found["thermal_seconds"] = seconds - reference
        if self.watts is not None:
            busy = watt_contexts(points, contexts, reference)
            costs = self.watts.costs(busy, watt_terms(points, reference))
            joules = self._watts(points, contexts, seconds) * seconds
            if self.thermal is not None:
                found["leakage_joules"] = self.thermal.leakage_watts(points) * seconds
                joules = joules - found["leakage_joules"]
            shares = costs * (joules / costs.sum(axis=1))[:, None]
            for name in dict.fromkeys(WATT_SHARES):
                member = [place for place, each in enumerate(WATT_SHARES) if each == name]
                found[f"{name}_joules"] = shares[:, member].sum(axis=1)
        return found

    def _seconds(self, points: Points, contexts: Contexts) -> NDArray[np.float64]:
        plain = self.latency.uncorrected(contexts, term_seconds(points))
        value = plain * np.exp(self.latency.corrections(points, contexts))
        return value if self.thermal is None else value * self.thermal.slowdown(points)

    def _at_reference(self, points: Points, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        return seconds if self.thermal is None else seconds / self.thermal.slowdown(points)

    def _watts(
        self, points: Points, contexts: Contexts, seconds: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        assert self.watts is not None
        # Power is fitted at the reference of temperature and clock, and so are its terms.
        reference = self._at_reference(points, seconds)
        busy = watt_contexts(points, contexts, reference)
        plain = self.watts.uncorrected(busy, watt_terms(points, reference))
        value = plain * np.exp(self.watts.corrections(points, contexts))
        if self.thermal is not None:
            value = value * self.thermal.watts_ratio(points) + self.thermal.leakage_watts(points)
        limit = limit_watts(points)
        # Colder than anything measured, less leakage must not become less than no power.
        return np.clip(value, _LEAST_FRACTION * limit, limit)


def _prediction(
    value: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    extrapolating: NDArray[np.bool_],
) -> Prediction:
    ends = (_kept(value), _kept(value * np.exp(low)), _kept(value * np.exp(high)))
    return Prediction(*ends, extrapolating)


def _kept(values: NDArray[np.float64]) -> NDArray[np.float64]:
    mantissa, exponent = np.frexp(values)
    kept: NDArray[np.float64] = np.ldexp(
        np.rint(np.ldexp(mantissa, _KEPT_BITS)), exponent - _KEPT_BITS
    )
    return kept
