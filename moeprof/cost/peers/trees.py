"""LightGBM's trees, grown so that the same rows give the same trees wherever they grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import lightgbm
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from moeprof.cost.features import Features

_SETTINGS: Final[dict[str, Any]] = {
    "objective": "regression",
    # Several threads are many times slower where other processes use the cores.
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """Grown trees, and the estimate without any of them, to which they add."""

    booster: lightgbm.Booster
    estimate: float  # the mean of what was learned, in its unit

    def predict(self, features: Features) -> NDArray[np.float64]:
        """Return what was learned, [num_points]."""
        found = self.booster.predict(features.values, num_threads=1)
        return self.estimate + np.asarray(found, dtype=np.float64)


def grow(
    features: Features,
    target: NDArray[np.float64],
    num_trees: int,
    settings: Mapping[str, Any],
) -> Trees:
    """Return `num_trees` trees from features to `target`, [num_points], in any unit."""
    mean = float(target.mean())
    data = lightgbm.Dataset(
        features.values,
        label=target - mean,
        feature_name=list(features.names),
        categorical_feature=list(features.categorical),
        params={"verbosity": -1},
        free_raw_data=True,
    )
    return Trees(lightgbm.train({**_SETTINGS, **settings}, data, num_boost_round=num_trees), mean)
