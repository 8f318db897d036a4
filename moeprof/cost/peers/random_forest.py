"""Vidur's method: a random forest from the logs of sizes to the log of the quantity.

Vidur (Agrawal et al., MLSys 2024, arXiv 2405.05465, section 4) grows forests of regression trees
on a kernel's sizes. Here LightGBM grows them in its random-forest mode, each from a sample of four
fifths of the rows, without replacement, so that no further library is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from moeprof.cost.features import Vocabulary, shape_features, vocabulary_of
from moeprof.cost.peers.check import check_rows
from moeprof.cost.peers.protocol import Quantity
from moeprof.cost.peers.trees import Trees, grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points

# The second twenty trees are worth 0.3 points of the mean error, and cost as much as the first.
_NUM_TREES: Final = 20
_SETTINGS: Final = {
    "boosting": "rf",
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction_bynode": 0.7,
    # A forest's trees are grown until rows can no longer be told apart; fewer leaves are quicker
    # and worse. LightGBM's guards against rare texts are for boosting, and would stop them early.
    "num_leaves": 16384,
    "min_data_in_leaf": 1,
    "min_sum_hessian_in_leaf": 0.0,
    "min_data_per_group": 1,
    "cat_l2": 0.0,
    "cat_smooth": 0.0,
    "max_cat_to_onehot": 64,
}


@dataclass(frozen=True, slots=True)
class FittedForest:
    """Trees, and the texts that they know."""

    trees: Trees
    vocabulary: Vocabulary

    def predict(self, points: Points) -> NDArray[np.float64]:
        """Return the quantity, [num_points]; see `Fitted.predict`."""
        return np.exp(self.trees.predict(shape_features(points, self.vocabulary)))


@dataclass(frozen=True, slots=True)
class RandomForest:
    """Twenty deep trees on what a table of measurements says itself, averaged in logs."""

    name: ClassVar[str] = "random_forest"
    quantities: ClassVar[frozenset[Quantity]] = frozenset(Quantity)

    def fit(
        self,
        points: Points,
        observed: NDArray[np.float64],
        quantity: Quantity = Quantity.LATENCY_SECONDS,
    ) -> FittedForest:
        """Grow the forest; see `Peer.fit`."""
        assert quantity in self.quantities
        check_rows(points, observed)
        vocabulary = vocabulary_of(points)
        features = shape_features(points, vocabulary)
        return FittedForest(grow(features, np.log(observed), _NUM_TREES, _SETTINGS), vocabulary)
