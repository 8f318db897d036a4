"""One quantity's model: coefficients from a network, curves through what it left over, bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.intervals import DECODE_TOKENS, bounds
from moeprof.cost.local import octaves_of
from moeprof.cost.reach import reaches_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.anchors import Anchors
    from moeprof.cost.contexts import Contexts
    from moeprof.cost.intervals import Band
    from moeprof.cost.local import Curves
    from moeprof.cost.network import Encoder, Network
    from moeprof.cost.points import Points
    from moeprof.cost.reach import Reaches, Seen


@dataclass(frozen=True, slots=True, eq=False)
class PartModel:
    """What a fit found for one quantity, such as seconds: physics times a correction.

    The network gives each context the coefficients of the quantity's terms; `parts`, [num_terms],
    says how those join (see `training.Task`). `anchors` are the adaptations since the fit, oldest
    first.
    """

    parts: NDArray[np.int64]
    encoder: Encoder
    network: Network
    curves: Curves
    seen: Seen
    bands: tuple[Band, ...]
    anchors: tuple[Anchors, ...] = ()

    def costs(self, contexts: Contexts, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each term at its coefficient, [num_points, num_terms], in the terms' unit."""
        log = self.network.log_coefficients(self.encoder.inputs(contexts))
        return np.exp(log)[contexts.index] * terms

    def uncorrected(self, contexts: Contexts, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the terms give without the curves, [num_points]."""
        return joined_parts(self.part_costs(contexts, terms))

    def part_costs(self, contexts: Contexts, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums of the terms by part, [num_points, num_parts]."""
        log = self.network.log_coefficients(self.encoder.inputs(contexts))
        coefficients = np.exp(log)
        found = np.zeros((int(self.parts.max()) + 1, len(terms)))
        # Term by term, not as one product: a point's sum must not depend on how many are asked.
        for term, part in enumerate(self.parts.tolist()):
            found[part] += coefficients[:, term][contexts.index] * terms[:, term]
        return found.T

    def corrections(self, points: Points, contexts: Contexts) -> NDArray[np.float64]:
        """Return the log ratio that curves and anchors add at each point, [num_points].

        A context that was measured on another GPU alone borrows that one's curves.
        """
        curve = self.curves.find(points, contexts, borrow=True)
        found = self.curves.corrections(curve, octaves_of(points))
        for each in self.anchors:
            found = found + each.corrections(points, contexts)
        return found

    def reaches(self, points: Points, contexts: Contexts) -> Reaches:
        """Return how far each point lies from what was measured."""
        return reaches_of(points, contexts, self.seen, self.curves)

    def spread(self, contexts: Contexts) -> NDArray[np.float64]:
        """Return how far off adaptations were where they act, as log ratio, [num_points]."""
        found = np.zeros(len(contexts))
        for each in self.anchors:
            found = np.maximum(found, np.where(each.touches(contexts), each.spread_fraction, 0.0))
        return found[contexts.index]

    def bounds(
        self, points: Points, contexts: Contexts, reaches: Reaches
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the log ratios of the 90 % interval's ends, [num_points] each."""
        low, high = bounds(self.bands, reaches, points.batch_size <= DECODE_TOKENS)
        spread = self.spread(contexts)
        return np.where(spread > 0, -spread, low), np.where(spread > 0, spread, high)


def joined_parts(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cost, [num_points], of parts [num_points, num_parts]: the first + a root.

    The root of the others' squares is a smooth maximum, as of a roofline's two times.
    """
    total: NDArray[np.float64] = parts[:, 0]
    if parts.shape[1] > 1:
        total = total + np.sqrt(np.square(parts[:, 1:]).sum(axis=1))
    return total
