"""What the network left over at measured points, carried to their neighbours in batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from moeprof.cost.grouping import group_medians

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from moeprof.cost.contexts import Contexts
    from moeprof.cost.points import Points

ANY_PATTERN: Final = ""  # the curve of a context for patterns that were not measured there

# Covariances of log ratios; how wide they are matters little, see docs/cost-model.md.
_CONTEXT_VARIANCE: Final = 0.05**2  # what all points of a context share
_CURVE_VARIANCE: Final = 0.05**2  # what neighbours along a curve share
_OF_ALL_PATTERNS: Final = 0.6  # the share of it that all patterns of a context have in common
_REACH_OCTAVES: Final = 2.2  # doublings of the batch size over which it fades by 1/e
_NOISE_VARIANCE: Final = 0.01**2  # of one row, beside which repeats average out
STEPS_PER_LOG: Final = 10_000  # corrections are whole steps: 0.01 % is far below any noise
_MOST_KNOTS: Final = 1500  # of one context: 1500^3 operations take a second


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Corrections, in log ratio, of the contexts that were measured, along the batch size.

    Curve c is of context `contexts[c]` under `patterns[c]`; its knots are
    `octaves[starts[c]:starts[c + 1]]`, rising (log2 of tokens), with `values` at them.
    """

    contexts: tuple[tuple[str | int, ...], ...]
    patterns: tuple[str, ...]
    starts: NDArray[np.int64]
    octaves: NDArray[np.float64]
    values: NDArray[np.float64]

    def find(
        self, points: Points, contexts: Contexts, *, borrow: bool = False
    ) -> NDArray[np.int64]:
        """Return each point's curve, [num_points]: its own, its context's, or -1.

        With `borrow`, a context without curves takes those of the same on another GPU.
        """
        place = {key: c for c, key in enumerate(zip(self.contexts, self.patterns, strict=True))}
        if borrow:
            for (key, name), curve in list(place.items()):
                place.setdefault(((key[0], *key[2:]), name), curve)
        pattern = points.routing_pattern
        table = np.full((len(contexts), len(pattern.names)), -1, dtype=np.int64)
        for row, own in enumerate(contexts.keys()):
            key = own if not borrow or (own, ANY_PATTERN) in place else (own[0], *own[2:])
            anyhow = place.get((key, ANY_PATTERN), -1)
            if anyhow >= 0:
                table[row] = [place.get((key, name), anyhow) for name in pattern.names]
        found: NDArray[np.int64] = table[contexts.index, pattern.codes]
        return found

    def gaps(
        self, curve: NDArray[np.int64], octaves: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how far points lie from the nearest knot, and how far outside all knots.

        Both are [num_points], in doublings of the batch size; inf where there is no curve.
        """
        if not len(self.octaves):
            return np.full(len(curve), np.inf), np.full(len(curve), np.inf)
        left, right, known = self._around(curve, octaves)
        near = np.minimum(
            np.abs(octaves - self.octaves[left]), np.abs(octaves - self.octaves[right])
        )
        outside = np.maximum(self.octaves[left] - octaves, octaves - self.octaves[right])
        return np.where(known, near, np.inf), np.where(known, np.maximum(outside, 0), np.inf)

    def corrections(
        self, curve: NDArray[np.int64], octaves: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the log ratio to add at each point, [num_points]; 0 where there is no curve.

        Linear between knots; outside, the nearest knot's, which fades towards the curve's median.
        """
        if not len(self.octaves):
            return np.zeros(len(curve))
        left, right, known = self._around(curve, octaves)
        span = self.octaves[right] - self.octaves[left]
        way = np.where(span > 0, (octaves - self.octaves[left]) / np.where(span > 0, span, 1), 0)
        value = self.values[left] + np.clip(way, 0, 1) * (self.values[right] - self.values[left])
        distance = np.maximum(self.octaves[left] - octaves, octaves - self.octaves[right])
        middle = self._medians()[np.maximum(curve, 0)]
        kept = np.exp(-np.maximum(distance, 0) / _REACH_OCTAVES)
        return np.where(known, middle + (value - middle) * kept, 0.0)

    def _around(
        self, curve: NDArray[np.int64], octaves: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        which = np.maximum(curve, 0)
        # One search for all curves: they lie one after the other on one axis.
        stride = 128.0  # doublings: no batch size is this large
        knots = self._curve_of_knot() * stride + self.octaves
        place = np.searchsorted(knots, which * stride + octaves, "right")
        first, last = self.starts[which], self.starts[which + 1] - 1
        left = np.clip(place - 1, first, last)
        return left, np.clip(place, first, last), curve >= 0

    def _medians(self) -> NDArray[np.float64]:
        return group_medians(self._curve_of_knot(), self.values)

    def _curve_of_knot(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.patterns)), np.diff(self.starts))


NO_CURVES: Final = Curves(
    (),
    (),
    np.zeros(1, dtype=np.int64),
    np.zeros(0, dtype=np.float64),
    np.zeros(0, dtype=np.float64),
)


def octaves_of(points: Points) -> NDArray[np.float64]:
    """Return log2 of each point's batch size, [num_points]."""
    return np.log2(points.batch_size.astype(np.float64))


def fit_curves(
    points: Points,
    contexts: Contexts,
    residual: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> Curves:
    """Return the curves through what is left over, log(observed / predicted), [num_points].

    Within each context it is kriged over log2 of tokens with an exponential covariance, of which
    all patterns share a part. `weight`, in 0..1, divides a row's noise variance. Source: Rasmussen
    and Williams, Gaussian Processes for Machine Learning, MIT Press 2006, chapters 2 and 4.
    """
    octaves = octaves_of(points)
    order = np.argsort(contexts.index, kind="stable")
    borders = np.searchsorted(contexts.index[order], np.arange(len(contexts) + 1))
    keys = contexts.keys()
    names = points.routing_pattern.names
    found: list[tuple[tuple[str | int, ...], str, NDArray[np.float64], NDArray[np.float64]]] = []
    for context in range(len(contexts)):
        rows = order[borders[context] : borders[context + 1]]
        if not len(rows):
            continue
        pattern = points.routing_pattern.codes[rows].astype(np.int64)
        for code, knots, values in _krige(pattern, octaves[rows], residual[rows], weight[rows]):
            found.append((keys[context], names[code] if code >= 0 else ANY_PATTERN, knots, values))
    if not found:
        return NO_CURVES
    lengths = [len(knots) for _, _, knots, _ in found]
    return Curves(
        contexts=tuple(key for key, _, _, _ in found),
        patterns=tuple(name for _, name, _, _ in found),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        octaves=np.concatenate([knots for _, _, knots, _ in found]),
        values=np.rint(np.concatenate([each[3] for each in found]) * STEPS_PER_LOG) / STEPS_PER_LOG,
    )


def _krige(
    pattern: NDArray[np.int64],
    octaves: NDArray[np.float64],
    residual: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield (pattern, knots, values) of each measured pattern, and of -1 for any other."""
    places, which = np.unique(np.stack([pattern, octaves], axis=1), axis=0, return_inverse=True)
    which = which.ravel()
    precision = np.bincount(which, np.maximum(weight, 1e-3) / _NOISE_VARIANCE)
    mean = np.bincount(which, np.maximum(weight, 1e-3) / _NOISE_VARIANCE * residual) / precision
    kept = np.linspace(0, len(places) - 1, min(len(places), _MOST_KNOTS)).astype(np.int64)
    places, mean, precision = places[kept], mean[kept], precision[kept]
    own, knots = places[:, 0], places[:, 1]
    covariance = _covariance(own, knots, own, knots) + np.diag(1 / precision)
    solved = cho_solve(cho_factor(covariance, lower=True), mean)
    values = _covariance(own, knots, own, knots) @ solved
    for code in np.unique(own):
        mine = own == code
        yield int(code), knots[mine], values[mine]
    shared = np.unique(knots)
    yield -1, shared, _covariance(np.full(len(shared), -1.0), shared, own, knots) @ solved


def _covariance(
    pattern_a: NDArray[np.float64],
    octaves_a: NDArray[np.float64],
    pattern_b: NDArray[np.float64],
    octaves_b: NDArray[np.float64],
) -> NDArray[np.float64]:
    distance = np.abs(octaves_a[:, None] - octaves_b)
    alike = np.where(pattern_a[:, None] == pattern_b, 1.0, _OF_ALL_PATTERNS)
    near: NDArray[np.float64] = alike * np.exp(-distance / _REACH_OCTAVES)
    return _CONTEXT_VARIANCE + _CURVE_VARIANCE * near
