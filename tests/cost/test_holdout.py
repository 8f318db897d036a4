from __future__ import annotations

import numpy as np
import pytest
from cost.tables import TOKENS, grid, row, table

from moeprof.cost.holdout import Holdout, outside_range, splits
from moeprof.cost.points import Points, points_from_table
from moeprof.errors import FitError


def two_gpus() -> Points:
    devices = [("imported:h200-sxm", "NVIDIA H200"), ("imported:b200", "NVIDIA B200")]
    return points_from_table(
        table([row(device_kind=kind, device_name=name) for kind, name in devices])
    )


@pytest.mark.parametrize("kind", [each for each in Holdout if each is not Holdout.NONE])
def test_no_row_is_both_fitted_and_judged_or_judged_twice(kind: Holdout) -> None:
    points = two_gpus() if kind is Holdout.GPU else grid()

    found = splits(points, kind, seed=0)

    assert found
    for split in found:
        assert not (split.train & split.test).any()
        assert (split.train | split.test).all()
    assert sum(split.test.astype(int) for split in found).max() == 1


def test_nothing_held_out_is_no_split() -> None:
    assert splits(grid(), Holdout.NONE, seed=0) == ()


def test_a_fifth_of_the_rows_is_drawn_and_the_seed_decides_which() -> None:
    points = grid()

    (first,), (again,), (other,) = (splits(points, Holdout.RANDOM, seed) for seed in (0, 0, 1))

    assert first.test.sum() == round(len(points) / 5)
    assert (first.test == again.test).all()
    assert (first.test != other.test).any()


def test_every_second_batch_size_is_held_out_whole() -> None:
    points = grid()

    (split,) = splits(points, Holdout.TOKENS, seed=0)

    assert set(points.batch_size[split.test].tolist()) == set(TOKENS[1::2])
    assert set(points.batch_size[split.train].tolist()) == set(TOKENS[::2])


def test_beyond_is_above_512_tokens() -> None:
    points = grid()

    (split,) = splits(points, Holdout.BEYOND, seed=0)

    assert points.batch_size[split.train].max() == 512
    assert points.batch_size[split.test].min() == 1024


def test_a_shape_is_never_on_both_sides_and_all_are_judged() -> None:
    points = grid()

    found = splits(points, Holdout.SHAPE, seed=0)

    for split in found:
        assert not set(points.hidden_size[split.train]) & set(points.hidden_size[split.test])
    assert sum(split.test for split in found).all()


def test_each_gpu_is_left_out_once() -> None:
    names = [split.name for split in splits(two_gpus(), Holdout.GPU, seed=0)]

    assert names == ["gpu h200-sxm", "gpu b200"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Holdout.RANDOM, "needs at least 3 rows, got 2"),
        (Holdout.TOKENS, "needs at least 2 batch sizes, got 16"),
        (Holdout.BEYOND, "got none above 512"),
        (Holdout.SHAPE, r"needs at least 2 shapes .* got \(2048, 768, 128, 8\)"),
        (Holdout.GPU, "needs rows of at least 2 GPUs, got h200-sxm"),
    ],
)
def test_what_is_missing_for_a_split_is_said(kind: Holdout, message: str) -> None:
    points = points_from_table(table([row(), row()]))

    with pytest.raises(FitError, match=message) as refusal:
        splits(points, kind, seed=0)

    assert refusal.value.hint


def test_outside_is_beyond_a_size_or_of_an_unseen_kernel() -> None:
    train = points_from_table(table([row(batch_size=tokens) for tokens in (4, 64)]))
    cases = [
        row(batch_size=16),
        row(batch_size=2),
        row(batch_size=128),
        row(hidden_size=4096),
        row(kernel="cutlass"),
        row(weight_dtype="fp8"),
    ]

    found = outside_range(train, points_from_table(table(cases)))

    assert found.tolist() == [False, True, True, True, True, True]
    assert found.dtype == np.bool_
