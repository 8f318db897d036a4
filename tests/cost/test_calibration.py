from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from cost.tables import SHAPES, TOKENS, row, table

from moeprof.cost.calibration import LeftOut, rehearsals
from moeprof.cost.contexts import contexts_of
from moeprof.cost.points import Points, points_from_table

PATTERNS = ("uniform", "balanced")


@pytest.fixture(scope="module")
def points() -> Points:
    """Return four layers under two parallelisms, with two patterns, at twelve batch sizes."""
    names = ("hidden_size", "expert_size", "num_experts", "top_k")
    rows = [
        row(
            **dict(zip(names, shape, strict=True)),
            tp_size=ranks,
            routing_pattern=pattern,
            batch_size=tokens,
        )
        for shape, ranks, pattern, tokens in product(SHAPES, (1, 2), PATTERNS, TOKENS)
    ]
    return points_from_table(table(rows))


def left_out(points: Points, seed: int = 0) -> dict[str, LeftOut]:
    return {each.name: each for each in rehearsals(points, contexts_of(points), seed)}


def test_every_use_of_a_model_is_rehearsed(points: Points) -> None:
    found = left_out(points)

    alone = {"rows", "batch sizes", "pattern"}
    assert set(found) == alone | {
        "contexts",
        "layers 0",
        "layers 1",
        "layers 2",
        "beyond 8",
        "beyond 64",
    }
    assert {name for name, each in found.items() if not each.refit} == alone
    for each in found.values():
        assert each.test.shape == (len(points),)
        assert 0 < each.test.sum() < len(points)


def test_a_fifth_of_the_rows_is_left_out(points: Points) -> None:
    assert left_out(points)["rows"].test.mean() == pytest.approx(0.2, abs=0.07)


def test_every_second_batch_size_is_left_out_but_never_the_ends(points: Points) -> None:
    test = left_out(points)["batch sizes"].test

    out, kept = set(points.batch_size[test].tolist()), set(points.batch_size[~test].tolist())
    assert out == {2, 8, 32, 128, 512}
    assert not out & kept


def test_one_pattern_of_each_context_is_left_out(points: Points) -> None:
    index = contexts_of(points).index
    test = left_out(points)["pattern"].test

    for context in range(index.max() + 1):
        mine = points.take(index == context)
        out = mine.routing_pattern.take(test[index == context]).used()
        assert len(out) == 1
        assert test[index == context].sum() == len(TOKENS)


def test_contexts_are_left_out_whole(points: Points) -> None:
    index = contexts_of(points).index
    test = left_out(points)["contexts"].test

    assert not set(index[test].tolist()) & set(index[~test].tolist())


def test_a_layer_is_left_out_once_under_all_its_parallelisms(points: Points) -> None:
    folds = [each.test for name, each in left_out(points).items() if name.startswith("layers")]

    assert (np.sum(folds, axis=0) == 1).all()
    for test in folds:
        assert not set(points.hidden_size[test].tolist()) & set(points.hidden_size[~test].tolist())


@pytest.mark.parametrize("ratio", [8, 64])
def test_beyond_leaves_out_the_greatest_batch_sizes(points: Points, ratio: int) -> None:
    test = left_out(points)[f"beyond {ratio}"].test

    assert points.batch_size[~test].max() * ratio == TOKENS[-1]
    assert points.batch_size[test].min() > points.batch_size[~test].max()


def test_a_seed_leaves_out_the_same_rows_and_another_seed_others(points: Points) -> None:
    first, again, other = left_out(points), left_out(points), left_out(points, seed=1)

    for name, each in first.items():
        assert (each.test == again[name].test).all()
    assert (first["rows"].test != other["rows"].test).any()


def test_nothing_is_left_out_that_leaves_too_little_to_fit() -> None:
    points = points_from_table(table([row(batch_size=each) for each in TOKENS]))

    # One layer with one pattern; 7 batch sizes are every second one, 6 lie below a 64th.
    assert set(left_out(points)) == {"rows", "beyond 8"}
