"""Rows of a table as curves over batch size: all rows that agree in everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from moeprof.cost.grouping import group_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moeprof.cost.points import Points

Key: TypeAlias = tuple[str | int, ...]  # texts, then sizes, as below

_TEXTS: Final = ("kernel", "engine", "gpu", "weight_dtype", "activation_dtype", "routing_pattern")
_SIZES: Final = (
    *("hidden_size", "expert_size", "num_experts", "top_k", "ep_size", "tp_size"),
    "num_projections",
)
# How far apart two curves are that differ in a text, against a factor of e in a size: what is
# not the same kernel, GPU or format is the last to be taken, and another pattern the first.
_TEXT_DISTANCE: Final = (1e3, 1e2, 1e5, 1e4, 1e4, 1e-3)
_NUM_AT_ONCE: Final = 2_000_000  # distances held at a time, which bounds the memory


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Curves of one or more knots each; `keys` tell them apart, `tokens` rise within a curve.

    `keys` has a tuple of texts and sizes per curve; curve c has the knots
    `starts[c]:starts[c + 1]` of `tokens`, [num_knots] of int64.
    """

    keys: tuple[Key, ...]
    starts: NDArray[np.int64]
    tokens: NDArray[np.int64]

    def nearest(self, points: Points) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the curve of each point, and whether it is its own, both [num_points].

        A point without one gets the nearest, by the Euclidean distance of the logs of its sizes
        and a distance for each text that differs.
        """
        keys, which = _keys(points)
        number = {key: place for place, key in enumerate(self.keys)}
        own = np.array([number.get(key, -1) for key in keys], dtype=np.int64)
        is_own = own >= 0
        lost = np.flatnonzero(~is_own)
        own[lost] = self._nearest([keys[place] for place in lost.tolist()])
        return own[which], is_own[which]

    def between(
        self, curve: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the knots on both sides of a batch size and the weight of the right, [num_points].

        Beyond either end of a curve both are its last knot, and the weight is 0.
        """
        span = int(max(self.tokens.max(), tokens.max(initial=0))) + 1
        owner = np.repeat(np.arange(len(self.keys)), np.diff(self.starts))
        place = np.searchsorted(owner * span + self.tokens, curve * span + tokens, side="right")
        first, last = self.starts[curve], self.starts[curve + 1] - 1
        left = np.clip(place - 1, first, last)
        right = np.clip(place, first, last)
        gap = self.tokens[right] - self.tokens[left]
        weight = np.where(gap > 0, (tokens - self.tokens[left]) / np.maximum(gap, 1), 0.0)
        return left, right, weight

    def _nearest(self, keys: list[Key]) -> NDArray[np.int64]:
        found = np.empty(len(keys), dtype=np.int64)
        own_sizes, own_texts = _sizes_of(self.keys), _texts_of(self.keys)
        sizes, texts = _sizes_of(keys), _texts_of(keys)
        step = max(1, _NUM_AT_ONCE // len(self.keys))
        for start in range(0, len(keys), step):
            some = slice(start, start + step)
            distance = np.zeros((len(sizes[some]), len(self.keys)))
            for place in range(len(_SIZES)):
                distance += (sizes[some, place, np.newaxis] - own_sizes[:, place]) ** 2
            for place, penalty in enumerate(_TEXT_DISTANCE):
                distance += penalty * (texts[some, place, np.newaxis] != own_texts[:, place])
            found[some] = distance.argmin(axis=1)
        return found


def curves_of(points: Points) -> tuple[Curves, NDArray[np.int64]]:
    """Return the curves that points make, and the knot that each of them is, [num_points]."""
    keys, curve = _keys(points)
    span = int(points.batch_size.max(initial=0)) + 1
    knots, knot_of_point = np.unique(curve * span + points.batch_size, return_inverse=True)
    owner, tokens = np.divmod(knots, span)
    starts = np.searchsorted(owner, np.arange(len(keys) + 1))
    return Curves(tuple(keys), starts, tokens), knot_of_point.ravel()


def _keys(points: Points) -> tuple[list[Key], NDArray[np.int64]]:
    """Return the distinct keys of points, and which each has, [num_points]."""
    labels = [getattr(points, name) for name in _TEXTS]
    columns = [each.codes.astype(np.int64) for each in labels]
    columns += [getattr(points, name) for name in _SIZES]
    code = group_codes(columns)
    _, first, which = np.unique(code, return_index=True, return_inverse=True)
    rows = np.stack([column[first] for column in columns], axis=-1)
    texts, sizes = rows[:, : len(_TEXTS)].tolist(), rows[:, len(_TEXTS) :].tolist()
    keys: list[Key] = [
        (*(each.names[at] for each, at in zip(labels, codes, strict=True)), *own)
        for codes, own in zip(texts, sizes, strict=True)
    ]
    return keys, which.ravel()


def _sizes_of(
    keys: Sequence[Key],
) -> NDArray[np.float64]:
    sizes = np.array([key[len(_TEXTS) :] for key in keys], dtype=np.float64)
    return np.log(sizes.reshape(len(keys), len(_SIZES)))


def _texts_of(
    keys: Sequence[Key],
) -> NDArray[np.str_]:
    texts = np.array([key[: len(_TEXTS)] for key in keys], dtype=np.str_)
    return texts.reshape(len(keys), len(_TEXTS))
