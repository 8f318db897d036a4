"""Where terms bend: what of their form depends on the layer and the GPU, and not on the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.cache import caches_per_expert, missed_fraction
from moeprof.cost.terms import known_num_sms
from moeprof.cost.tiles.chosen import Tiles, tiles_of
from moeprof.cost.tiles.waves import tiles_taken, waves_per_tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.points import Points
    from moeprof.workload.occupancy import Occupancy


@dataclass(frozen=True, slots=True, eq=False)
class Bends:
    """Of each point, how fast its rows fill the cache, and waves of blocks over the SMs.

    `caches_per_expert` is [num_points], `waves_per_tile` [num_points, 2].
    """

    caches_per_expert: NDArray[np.float64]
    tiles: Tiles
    waves_per_tile: NDArray[np.float64]

    def take(self, index: NDArray[np.int64]) -> Bends:
        """Return the bends of some of the points, by their indices."""
        return Bends(
            self.caches_per_expert[index], self.tiles.take(index), self.waves_per_tile[index]
        )

    def features(self, occupancy: Occupancy) -> NDArray[np.float64]:
        """Return what terms are linear in beyond their bends, [num_points, 6].

        That is active experts, and rows where more, whose weights do not stay in the cache; and of
        both products the waves, at least one, and the waves begun.
        """
        active = occupancy.num_active
        missed = missed_fraction(active * self.caches_per_expert)
        tiles = tiles_taken(occupancy, self.tiles)[:, None]
        waves = tiles * self.waves_per_tile
        any_tile = tiles > 0
        return np.concatenate(
            [
                np.stack(
                    [active * missed, np.maximum(active, occupancy.num_rows) * missed], axis=1
                ),
                np.where(any_tile, np.maximum(waves, 1), 0.0),
                np.where(any_tile, np.ceil(waves), 0.0),
            ],
            axis=1,
        )


def bends_of(points: Points) -> Bends:
    """Return where the terms of each point bend."""
    tiles = tiles_of(points)
    return Bends(
        caches_per_expert(points), tiles, waves_per_tile(points, tiles, known_num_sms(points))
    )
