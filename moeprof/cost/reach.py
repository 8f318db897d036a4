"""How near a point lies to what was measured: on a curve, beyond its end, or at a new layer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.contexts import NUM_SHAPE_SIZES
from moeprof.cost.local import ANY_PATTERN, octaves_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.cost.contexts import Contexts
    from moeprof.cost.local import Curves
    from moeprof.cost.points import Points


class Reach(IntEnum):
    """From the nearest to the farthest; each needs more to be guessed than the one before."""

    CURVE = 0  # between measured batch sizes of this layer, kernel, parallelism and pattern
    PATTERN = 1  # the same without the pattern
    CONTEXT = 2  # a measured layer and kernel under another parallelism
    SHAPE = 3  # a layer that was not measured, a kernel that was
    BEYOND = 4  # outside the batch sizes that were measured
    KERNEL = 5  # a kernel, or a GPU, that was not measured


EXTRAPOLATING = (Reach.BEYOND, Reach.SHAPE, Reach.KERNEL)


@dataclass(frozen=True, slots=True, eq=False)
class Reaches:
    """Each point's `Reach` as a number, and its distance in doublings of the batch size.

    The distance is that to the nearest measured batch size (`CURVE`, `PATTERN`), or that by which
    it lies outside all of them (`BEYOND`); else 0. Both are [num_points].
    """

    reach: NDArray[np.int64]
    octaves: NDArray[np.float64]

    @property
    def extrapolating(self) -> NDArray[np.bool_]:
        """Points outside of what the fit has seen, [num_points]."""
        return np.isin(self.reach, EXTRAPOLATING)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a fit has seen: kernels with their GPU, layers with both, and their batch sizes.

    `octaves` maps a kernel and GPU to the least and greatest log2 of tokens.
    """

    shapes: frozenset[tuple[str | int, ...]]
    octaves: dict[tuple[str, str], tuple[float, float]]


NOTHING_SEEN: Final = Seen(frozenset(), {})


def seen_of(points: Points, contexts: Contexts) -> Seen:
    """Return what these points show a fit."""
    octaves = octaves_of(points)
    least = np.full(len(contexts), np.inf)
    most = np.full(len(contexts), -np.inf)
    np.minimum.at(least, contexts.index, octaves)
    np.maximum.at(most, contexts.index, octaves)
    spans: dict[tuple[str, str], tuple[float, float]] = {}
    rows = zip(
        contexts.kernel.texts(), contexts.gpu.texts(), least.tolist(), most.tolist(), strict=True
    )
    for kernel, gpu, low, high in rows:
        known = spans.get((kernel, gpu), (low, high))
        spans[kernel, gpu] = (min(low, known[0]), max(high, known[1]))
    keys = contexts.keys()
    return Seen(frozenset(_shape(key) for key in keys), spans)


def reaches_of(points: Points, contexts: Contexts, seen: Seen, curves: Curves) -> Reaches:
    """Return how far each point lies from what was seen."""
    octaves = octaves_of(points)
    curve = curves.find(points, contexts)
    near, outside = curves.gaps(curve, octaves)
    own = np.array([name != ANY_PATTERN for name in curves.patterns] + [False])[curve]
    keys = contexts.keys()
    spans = np.array([seen.octaves.get((str(k[0]), str(k[1])), (np.nan, np.nan)) for k in keys])
    spans = spans.reshape(-1, 2)
    low, high = spans[contexts.index].T
    known_kernel = np.isfinite(low)
    known_shape = np.array([_shape(key) in seen.shapes for key in keys], dtype=bool)[contexts.index]
    beyond = np.where(
        np.isfinite(outside), outside, np.fmax(np.fmax(low - octaves, octaves - high), 0)
    )
    reach = np.select(
        [~known_kernel, beyond > 0, curve < 0, own],
        [
            Reach.KERNEL,
            Reach.BEYOND,
            np.where(known_shape, Reach.CONTEXT, Reach.SHAPE),
            Reach.CURVE,
        ],
        Reach.PATTERN,
    )
    distance = np.select([reach == Reach.BEYOND, reach <= Reach.PATTERN], [beyond, near], 0.0)
    return Reaches(reach.astype(np.int64), distance)


def _shape(key: tuple[str | int, ...]) -> tuple[str | int, ...]:
    return key[: 2 + NUM_SHAPE_SIZES]
