"""aiconfigurator's method: interpolation in tokens along a measured curve, or the nearest one.

Described in https://github.com/ai-dynamo/aiconfigurator (0.12.0): a measured point is returned as
it is; between two, latency is linear in tokens; outside, the share of the roofline that the last
point reached is held; of a shape without a curve, the nearest curve's share of the roofline is
taken. Its roofline counts experts as min(E / ep, T x k / ep), whatever the routing pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from moeprof.cost.demand import demand_of, ideal_seconds
from moeprof.cost.grouping import group_medians
from moeprof.cost.peers.check import check_datasheets, check_rows
from moeprof.cost.peers.curves import Curves, curves_of
from moeprof.cost.peers.protocol import Quantity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points


@dataclass(frozen=True, slots=True, eq=False)
class FittedCurves:
    """Measured curves, what was measured on them, and the share of the roofline that it is."""

    curves: Curves
    values: NDArray[np.float64]  # [num_knots]
    shares: NDArray[np.float64]  # [num_knots]; values themselves where there is no roofline
    quantity: Quantity

    def predict(self, points: Points) -> NDArray[np.float64]:
        """Return the quantity, [num_points]; see `Fitted.predict`."""
        reference = _reference(points, self.quantity)
        curve, is_own = self.curves.nearest(points)
        left, right, weight = self.curves.between(curve, points.batch_size)
        within = is_own & ((weight > 0) | (self.curves.tokens[left] == points.batch_size))
        direct = (1 - weight) * self.values[left] + weight * self.values[right]
        shares = (1 - weight) * self.shares[left] + weight * self.shares[right]
        return np.where(within, direct, reference * shares)


@dataclass(frozen=True, slots=True)
class TokenInterpolation:
    """A lookup in the rows themselves; of repeats of one point, the median counts."""

    name: ClassVar[str] = "token_interpolation"
    quantities: ClassVar[frozenset[Quantity]] = frozenset(Quantity)

    def fit(
        self,
        points: Points,
        observed: NDArray[np.float64],
        quantity: Quantity = Quantity.LATENCY_SECONDS,
    ) -> FittedCurves:
        """Sort the rows into curves; see `Peer.fit`."""
        assert quantity in self.quantities
        check_rows(points, observed)
        reference = _reference(points, quantity)
        curves, knot_of_point = curves_of(points)
        values = group_medians(knot_of_point, observed)
        shares = group_medians(knot_of_point, observed / reference)
        return FittedCurves(curves, values, shares, quantity)


def _reference(points: Points, quantity: Quantity) -> NDArray[np.float64]:
    if quantity is not Quantity.LATENCY_SECONDS:
        return np.ones(len(points))
    check_datasheets(points)
    rows = points.batch_size * points.top_k / points.ep_size
    experts = np.minimum(points.num_experts / points.ep_size, rows)
    return ideal_seconds(points, demand_of(points, experts, rows))
