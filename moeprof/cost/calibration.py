"""Which rows are left out to learn how far off predictions are, for each kind of reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.contexts import NUM_SHAPE_SIZES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.contexts import Contexts
    from moeprof.cost.points import Points

_NUM_SHAPE_FOLDS: Final = 3
_CONTEXT_FRACTION: Final = 0.2
_ROW_FRACTION: Final = 0.2
_BEYOND_RATIOS: Final = (8, 64)  # the greatest batch size over the greatest that is left in
_FEWEST_LEFT: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Rows left out, [num_points]; `refit`: the network too must be fitted without them."""

    name: str
    test: NDArray[np.bool_]
    refit: bool


def rehearsals(points: Points, contexts: Contexts, seed: int) -> list[LeftOut]:
    """Return what to leave out in turn, as the uses of a model would.

    Rows at random and every second batch size (new batch sizes of a known curve); one pattern of
    each context; contexts at random; layers, in folds; the greatest batch sizes. For the first
    three the network keeps what it has learnt: hundreds of rows of the same context remain.
    """
    draw = np.random.default_rng(seed)
    num = len(points)
    sizes = np.unique(points.batch_size)
    second = np.isin(points.batch_size, sizes[1:-1:2])
    patterns = points.routing_pattern.codes
    found = [
        LeftOut("rows", draw.random(num) < _ROW_FRACTION, refit=False),
        LeftOut("batch sizes", second, refit=False),
        LeftOut("pattern", _one_pattern(patterns, contexts, draw), refit=False),
        LeftOut(
            "contexts", (draw.random(len(contexts)) < _CONTEXT_FRACTION)[contexts.index], refit=True
        ),
    ]
    _, shape = np.unique(contexts.sizes[:, :NUM_SHAPE_SIZES], axis=0, return_inverse=True)
    shape = shape.ravel()
    num_shapes = int(shape.max()) + 1
    folds = draw.permutation(num_shapes) % min(_NUM_SHAPE_FOLDS, num_shapes)
    found += [
        LeftOut(f"layers {fold}", (folds == fold)[shape][contexts.index], refit=True)
        for fold in range(int(folds.max()) + 1 if num_shapes > 1 else 0)
    ]
    found += [
        LeftOut(f"beyond {ratio}", points.batch_size > sizes[-1] / ratio, refit=True)
        for ratio in _BEYOND_RATIOS
    ]
    return [each for each in found if each.test.any() and (~each.test).sum() >= _FEWEST_LEFT]


def _one_pattern(
    patterns: NDArray[np.int32], contexts: Contexts, draw: np.random.Generator
) -> NDArray[np.bool_]:
    """One of the patterns of each context that has several."""
    pairs = np.unique(np.stack([contexts.index, patterns], axis=1), axis=0)
    several = np.bincount(pairs[:, 0], minlength=len(contexts)) > 1
    shuffled = pairs[draw.permutation(len(pairs))]
    chosen = np.full(len(contexts), -1)
    chosen[shuffled[:, 0]] = shuffled[:, 1]
    chosen[~several] = -1
    found: NDArray[np.bool_] = chosen[contexts.index] == patterns
    return found
