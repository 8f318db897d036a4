"""LightGBM on the log of what the datasheet's roofline leaves to explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from moeprof.cost.demand import ideal_seconds
from moeprof.cost.features import Vocabulary, physics_features, vocabulary_of
from moeprof.cost.peers.check import check_rows
from moeprof.cost.peers.protocol import Quantity
from moeprof.cost.peers.trees import Trees, grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points

_NUM_TREES: Final = 400
_SETTINGS: Final = {"num_leaves": 127, "learning_rate": 0.05}


@dataclass(frozen=True, slots=True)
class FittedTrees:
    """Trees, the texts that they know, and the quantity that they were grown for."""

    trees: Trees
    vocabulary: Vocabulary
    quantity: Quantity

    def predict(self, points: Points) -> NDArray[np.float64]:
        """Return the quantity, [num_points]; see `Fitted.predict`."""
        log_ratio = self.trees.predict(physics_features(points, self.vocabulary))
        return _baseline(points, self.quantity) * np.exp(log_ratio)


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """Boosted trees on physics features; power has no roofline, so there the log is of watts."""

    name: ClassVar[str] = "lightgbm"
    quantities: ClassVar[frozenset[Quantity]] = frozenset(Quantity)

    def fit(
        self,
        points: Points,
        observed: NDArray[np.float64],
        quantity: Quantity = Quantity.LATENCY_SECONDS,
    ) -> FittedTrees:
        """Grow the trees; see `Peer.fit`."""
        check_rows(points, observed)
        vocabulary = vocabulary_of(points)
        target = np.log(observed / _baseline(points, quantity))
        features = physics_features(points, vocabulary)
        return FittedTrees(grow(features, target, _NUM_TREES, _SETTINGS), vocabulary, quantity)


def _baseline(points: Points, quantity: Quantity) -> NDArray[np.float64]:
    """Return the roofline's seconds, [num_points]; 1 where there is none to explain away."""
    if quantity is not Quantity.LATENCY_SECONDS:
        return np.ones(len(points))
    ideal = ideal_seconds(points)
    return np.where(np.isnan(ideal), 1.0, ideal)
