"""Claims about how a rank's rows fall on its experts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.errors import WorkloadError
from moeprof.workload.occupancy import (
    TILE_ROWS,
    Occupancy,
    expected_occupancy,
    occupancy_of_rows,
    spread_occupancy,
)
from moeprof.workload.occupancy.power_law import fullest_rank_rows
from moeprof.workload.routing import draw, parse, rows_per_expert


def figures(occupancy: Occupancy) -> np.ndarray:
    """Every figure of each point, [num_points, 9]."""
    counts = [occupancy.num_active, occupancy.num_rows, occupancy.max_rows]
    return np.column_stack([*counts, occupancy.tiles])


def drawn(text: str, *, batch_size: int, num_local: int, num_seeds: int) -> np.ndarray:
    """Mean figures over many draws of the whole batch."""
    counts = [
        rows_per_expert(draw(parse(text), num_tokens=batch_size, seed=seed, **LAYER), 32)[
            :num_local
        ]
        for seed in range(num_seeds)
    ]
    offsets = np.arange(num_seeds + 1) * num_local
    return figures(occupancy_of_rows(offsets, np.concatenate(counts))).mean(axis=0)


LAYER = {"num_experts": 32, "top_k": 4}


@given(st.lists(st.lists(st.integers(0, 600), max_size=9), min_size=1, max_size=6))
def test_counted_rows_give_exact_figures(points: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, points)])

    found = occupancy_of_rows(offsets, [rows for point in points for rows in point])

    assert found.num_active.tolist() == [sum(r > 0 for r in point) for point in points]
    assert found.num_rows.tolist() == [sum(point) for point in points]
    assert found.max_rows.tolist() == [max(point, default=0) for point in points]
    assert found.tiles.tolist() == [
        [sum(-(-r // height) for r in point) for height in TILE_ROWS] for point in points
    ]


def test_offsets_that_fall_and_negative_rows_are_refused() -> None:
    for offsets, rows in (([0, 3, 2], [1, 2, 3]), ([0, 4], [1]), ([], []), ([0, 1], [-1])):
        with pytest.raises(WorkloadError):
            occupancy_of_rows(offsets, rows)


@given(
    num_local=st.sampled_from([1, 2, 4]),
    ep_size=st.sampled_from([1, 2, 4]),
    top_k=st.integers(1, 4),
    num_tokens=st.integers(1, 60),
    exponent=st.sampled_from([0.6, 1.01, 1.2, 2.0]),
    seed=st.integers(0, 50),
)
def test_power_law_rows_are_those_of_the_collectors_fullest_rank(
    num_local: int, ep_size: int, top_k: int, num_tokens: int, exponent: float, seed: int
) -> None:
    num_experts = num_local * ep_size
    top_k = min(top_k, num_experts)
    quantiles = np.random.default_rng(seed).random((1, num_experts))

    ((rows,),) = fullest_rank_rows(
        quantiles,
        exponent,
        batch_sizes=np.array([num_tokens]),
        top_k=top_k,
        ep_size=ep_size,
    )

    expected = collector_ranks(quantiles[0], exponent, num_tokens, top_k, ep_size)
    assert sorted(rows.tolist()) == sorted(max(expected, key=sum))


def test_small_batches_of_a_packed_power_law_lie_on_one_rank() -> None:
    spread, packed = (
        expected_occupancy(f"{name}:1.2", 384, 8, [1, 2, 512], 8)
        for name in ("power_law", "packed_power_law")
    )

    assert packed.num_active[:2].tolist() == [8, 16]
    assert (spread.num_active[:2] <= 2).all()
    assert packed.num_active[2] == pytest.approx(spread.num_active[2], rel=0.1)


def collector_ranks(
    quantiles: np.ndarray, exponent: float, num_tokens: int, top_k: int, ep_size: int
) -> list[list[int]]:
    """The rows of every rank by the steps that the collector takes, one row at a time."""
    num_rows, power = num_tokens * top_k, 1 - exponent
    low, high = (1, 0.8 * num_tokens) if num_rows > len(quantiles) else (0.01, 2)
    samples = (low**power + quantiles * (high**power - low**power)) ** (1 / power)
    wanted = [round(share) for share in (samples / samples.sum() * num_rows).tolist()]
    counts = [min(count, num_tokens) for count in wanted]
    local = len(counts) // ep_size
    ranks = [counts[start : start + local] for start in range(0, len(counts), local)]

    def adjust(num: int, step: int) -> None:
        while num and any(c < num_tokens if step > 0 else c for rank in ranks for c in rank):
            for rank in ranks:
                valid = [c for c in rank if (c < num_tokens if step > 0 else c > 0)]
                if valid and num:
                    rank[rank.index(min(valid) if step > 0 else max(valid))] += step
                    num -= 1

    adjust(sum(wanted) - sum(counts), 1)
    missing = num_rows - sum(map(sum, ranks))
    adjust(abs(missing), 1 if missing > 0 else -1)
    return ranks


@pytest.mark.parametrize("text", ["balanced", "active:12"])
@pytest.mark.parametrize("batch_size", [3, 5, 21])
def test_evenly_dealt_rows_are_expected_exactly(text: str, batch_size: int) -> None:
    found = expected_occupancy(text, 32, 4, batch_size, 4)

    many = drawn(text, batch_size=batch_size, num_local=8, num_seeds=400)
    assert figures(found)[0] == pytest.approx(many, rel=0.06)


@pytest.mark.parametrize("text", ["uniform", "zipf:1", "dirichlet:0.5", "hot:4@0.6"])
@pytest.mark.parametrize(("batch_size", "num_local"), [(2, 32), (40, 8)])
def test_rows_by_popularity_are_those_of_drawn_tokens(
    text: str, batch_size: int, num_local: int
) -> None:
    found = expected_occupancy(text, 32, 4, batch_size, 32 // num_local, num_draws=200)

    many = drawn(text, batch_size=batch_size, num_local=num_local, num_seeds=200)
    assert figures(found)[0] == pytest.approx(many, rel=0.08)


def test_a_uniform_batch_has_the_active_experts_of_the_formula() -> None:
    sizes = np.array([1, 4, 16, 64, 256])

    found = expected_occupancy("uniform", 256, 8, sizes, 8)

    assert found.num_active == pytest.approx(32 * (1 - (1 - 8 / 256) ** sizes), rel=0.01)
    assert found.num_rows == pytest.approx(sizes * 8 / 8, rel=0.03)


def test_strided_rows_are_counted_on_the_first_rank() -> None:
    for batch_size in (1, 3, 8, 9, 40, 71):
        ids = draw(parse("strided"), num_tokens=batch_size, seed=0, **LAYER)
        rows = rows_per_expert(ids, 32)[:8]

        found = expected_occupancy("strided", 32, 4, batch_size, 4)

        assert figures(found)[0].tolist() == figures(occupancy_of_rows([0, 8], rows))[0].tolist()


def test_points_are_answered_in_their_order_whatever_they_share() -> None:
    patterns = ["power_law:1.2", "strided", "uniform", "strided", "power_law:1.2"] * 40
    sizes = np.tile([64, 1, 512, 64, 4], 40)

    together = figures(expected_occupancy(patterns, 64, 8, sizes, 4))

    alone = [
        figures(expected_occupancy(text, 64, 8, int(size), 4))[0]
        for text, size in zip(patterns[:5], sizes[:5], strict=True)
    ]
    assert np.array_equal(together, np.tile(alone, (40, 1)))


@settings(max_examples=30)
@given(
    st.sampled_from(["uniform", "balanced", "power_law:1.01", "power_law:1.2", "zipf:1"]),
    st.sampled_from([1, 2, 8]),
)
def test_more_tokens_never_make_fewer_rows_or_tiles(text: str, ep_size: int) -> None:
    sizes = 2 ** np.arange(13)

    found = expected_occupancy(text, 64, 6, sizes, ep_size)

    # Where rows begin to outnumber experts the collector's power law changes its bounds.
    start = 4 if text.startswith("power_law") else 0
    assert (np.diff(found.num_rows[start:]) > 0).all()
    assert (np.diff(found.tiles[start:, 3]) > -0.02 * found.tiles[start:-1, 3]).all()
    assert (found.max_rows <= sizes + 1e-9).all()
    assert (found.num_active <= 64 / ep_size + 1e-9).all()


def test_known_counts_are_spread_evenly() -> None:
    found = spread_occupancy([4, 4, 0], [12, 40, 0])

    assert found.max_rows.tolist() == [3, 10, 0]
    assert found.tiles[:, 0].tolist() == [4, 8, 0]


def test_a_fullest_expert_takes_its_rows_from_the_others() -> None:
    found = spread_occupancy([4, 1, 2], [40, 9, 20], [31, 9, 3])

    assert found.max_rows.tolist() == [31, 9, 10]
    assert found.tiles[:, 0].tolist() == [4 + 3, 2, 4]


def test_an_impossible_point_is_refused() -> None:
    with pytest.raises(WorkloadError, match="ep_size must divide num_experts"):
        expected_occupancy("power_law:1.2", 60, 4, 8, 8)
    with pytest.raises(WorkloadError, match="no pattern is called"):
        expected_occupancy(["uniform", "even"], 8, 2, 8, 1)
    with pytest.raises(WorkloadError, match="top_k must lie"):
        expected_occupancy("uniform", 8, 9, 8, 1)
    with pytest.raises(WorkloadError, match="num_active must be above 0"):
        spread_occupancy([0], [3])
