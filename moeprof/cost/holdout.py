"""Which rows a model is fitted to and which it is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.errors import FitError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from moeprof.cost.points import Points

_TEST_FRACTION: Final = 0.2
_NUM_FOLDS: Final = 5
_BEYOND_TOKENS: Final = 512


class Holdout(StrEnum):
    """What is held out: any rows, batch sizes, large batch sizes, whole shapes, whole GPUs."""

    RANDOM = "random"
    TOKENS = "tokens"
    BEYOND = "beyond"
    SHAPE = "shape"
    GPU = "gpu"
    NONE = "none"


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Disjoint masks [num_points] of the rows to fit to and to judge on; `name` says which."""

    name: str
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]


def splits(points: Points, kind: Holdout, seed: int) -> tuple[Split, ...]:
    """Return the splits of a kind; over several, every row is judged on at most once.

    - `random`: a fifth of the rows, drawn by `seed`.
    - `tokens`: every second of the distinct batch sizes, beginning with the second smallest.
    - `beyond`: batch sizes above 512 tokens, fitted to those up to 512.
    - `shape`: five folds, drawn by `seed`, over the distinct shapes (hidden_size, expert_size,
      num_experts, top_k); as many folds as shapes where there are fewer than five.
    - `gpu`: one GPU after the other.
    - `none`: nothing is held out, and there is no split.

    Raises:
        FitError: the points cannot be split so; the message says what is missing.

    """
    match kind:
        case Holdout.NONE:
            return ()
        case Holdout.RANDOM:
            return (_random(len(points), seed),)
        case Holdout.TOKENS:
            return (_tokens(points.batch_size),)
        case Holdout.BEYOND:
            return (_beyond(points.batch_size),)
        case Holdout.SHAPE:
            return _shapes(points, seed)
        case Holdout.GPU:
            return _gpus(points)


def outside_range(train: Points, test: Points) -> NDArray[np.bool_]:
    """Return which test points lie outside what the training points span, [num_test].

    Outside is a point with a kernel, GPU or number format that no training point has together, or
    with a size, degree of parallelism or number of rows per active expert below the least or
    above the largest of the training points that share them.
    """
    groups_of_train, groups_of_test = _group_names(train), _group_names(test)
    known, place = np.unique(groups_of_train, return_inverse=True)
    where = np.searchsorted(known, groups_of_test)
    seen = np.isin(groups_of_test, known)
    where = np.where(seen, where, 0)
    outside = ~seen
    for values, wanted in zip(_ranged(train), _ranged(test), strict=True):
        lowest = np.full(len(known), np.inf)
        highest = np.full(len(known), -np.inf)
        np.minimum.at(lowest, place.ravel(), values)
        np.maximum.at(highest, place.ravel(), values)
        outside |= (wanted < lowest[where]) | (wanted > highest[where])
    return outside


def _ranged(points: Points) -> tuple[NDArray[np.float64] | NDArray[np.int64], ...]:
    occupancy = points.occupancy
    return (
        points.batch_size,
        points.hidden_size,
        points.expert_size,
        points.num_experts,
        points.top_k,
        points.ep_size,
        points.tp_size,
        occupancy.num_rows / np.maximum(occupancy.num_active, 1),
    )


def _group_names(points: Points) -> NDArray[np.str_]:
    labels = (points.kernel, points.gpu, points.weight_dtype, points.activation_dtype)
    codes = np.stack([each.codes for each in labels], axis=-1)
    distinct, which = np.unique(codes, axis=0, return_inverse=True)
    names = [
        "\t".join(each.names[code] for each, code in zip(labels, row, strict=True))
        for row in distinct.tolist()
    ]
    return np.array(names, dtype=np.str_)[which.ravel()]


def _random(num_points: int, seed: int) -> Split:
    num_test = round(num_points * _TEST_FRACTION)
    if not 0 < num_test < num_points:
        raise FitError(
            f"holdout random: needs at least 3 rows, got {num_points}",
            hint="Measure more points, or take --holdout none.",
        )
    test = np.zeros(num_points, dtype=bool)
    test[np.random.default_rng(seed).permutation(num_points)[:num_test]] = True
    return Split("random", ~test, test)


def _tokens(batch_size: NDArray[np.int64]) -> Split:
    sizes = np.unique(batch_size)
    if len(sizes) < 2:  # noqa: PLR2004 - one to fit to and one to judge on
        raise FitError(
            f"holdout tokens: needs at least 2 batch sizes, got {_listed(sizes)}",
            hint="Measure more batch sizes, or take --holdout random.",
        )
    test = np.isin(batch_size, sizes[1::2])
    return Split("tokens", ~test, test)


def _beyond(batch_size: NDArray[np.int64]) -> Split:
    test = batch_size > _BEYOND_TOKENS
    if test.all() or not test.any():
        side = "up to" if test.all() else "above"
        raise FitError(
            f"holdout beyond: needs batch sizes up to {_BEYOND_TOKENS} tokens and above, "
            f"got none {side} {_BEYOND_TOKENS}",
            hint=f"Measure batch sizes {side} {_BEYOND_TOKENS}, or take --holdout tokens.",
        )
    return Split("beyond", ~test, test)


def _shapes(points: Points, seed: int) -> tuple[Split, ...]:
    sizes = (points.hidden_size, points.expert_size, points.num_experts, points.top_k)
    distinct, which = np.unique(np.stack(sizes, axis=-1), axis=0, return_inverse=True)
    if len(distinct) < 2:  # noqa: PLR2004
        raise FitError(
            f"holdout shape: needs at least 2 shapes (hidden_size, expert_size, num_experts, "
            f"top_k), got {_listed([tuple(row) for row in distinct.tolist()])}",
            hint="Measure layers of several shapes, or take --holdout tokens.",
        )
    num_folds = min(_NUM_FOLDS, len(distinct))
    folds = np.random.default_rng(seed).permutation(len(distinct)) % num_folds
    fold_of_row = folds[which.ravel()]
    tests = [fold_of_row == fold for fold in range(num_folds)]
    return tuple(Split(f"shape {fold}", ~test, test) for fold, test in enumerate(tests))


def _gpus(points: Points) -> tuple[Split, ...]:
    codes = np.unique(points.gpu.codes).tolist()
    if len(codes) < 2:  # noqa: PLR2004
        raise FitError(
            f"holdout gpu: needs rows of at least 2 GPUs, got {_listed(points.gpu.used())}",
            hint="Give the datasets of several GPUs, or take another --holdout.",
        )
    tests = {points.gpu.names[code]: points.gpu.codes == code for code in codes}
    return tuple(Split(f"gpu {name}", ~test, test) for name, test in tests.items())


def _listed(found: Iterable[object]) -> str:
    return ", ".join(str(each) for each in found) or "none"
