"""The roofline of the GPU's datasheet, in which nothing is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from moeprof.cost.demand import ideal_seconds
from moeprof.cost.peers.check import check_datasheets, check_rows
from moeprof.cost.peers.protocol import Quantity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moeprof.cost.points import Points


@dataclass(frozen=True, slots=True)
class RooflineDatasheet:
    """Peak bandwidth and peak FLOP/s of the catalogue, with the expected active experts."""

    name: ClassVar[str] = "roofline_datasheet"
    quantities: ClassVar[frozenset[Quantity]] = frozenset({Quantity.LATENCY_SECONDS})

    def fit(
        self,
        points: Points,
        observed: NDArray[np.float64],
        quantity: Quantity = Quantity.LATENCY_SECONDS,
    ) -> RooflineDatasheet:
        """Return itself, as there is nothing to fit; see `Peer.fit`."""
        assert quantity in self.quantities
        check_rows(points, observed)
        return self

    def predict(self, points: Points) -> NDArray[np.float64]:
        """Return seconds, [num_points]; see `Fitted.predict`."""
        check_datasheets(points)
        return ideal_seconds(points)
