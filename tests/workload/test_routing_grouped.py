"""Claims about gates that let a token choose from a few groups of experts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeprof.errors import WorkloadError
from moeprof.workload.occupancy import expected_occupancy
from moeprof.workload.occupancy.grouped import grouped_rows_of_counts, grouped_strided_rows
from moeprof.workload.occupancy.power_law import (
    fullest_rank_rows,
    rows_with_fullest_rank_first,
)
from moeprof.workload.routing import Grouped, Strided, check, draw, parse, rows_per_expert
from moeprof.workload.routing.grouped import limited_ids

DEEPSEEK = {"num_experts": 256, "top_k": 8}
GATE = Grouped(Strided(), 8, 4)


def gate_of_one_token(
    meant: list[int], num_experts: int, num_groups: int, num_allowed: int
) -> set[int]:
    """The experts that a gate takes, by scores: 1 for those meant, 0 for the others."""
    size = num_experts // num_groups
    score = [float(expert in meant) for expert in range(num_experts)]
    groups = [sum(sorted(score[g * size : (g + 1) * size])[-2:]) for g in range(num_groups)]
    best = sorted(range(num_groups), key=lambda group: -groups[group])[:num_allowed]
    allowed = [expert for expert in range(num_experts) if expert // size in best]
    return set(sorted(allowed, key=lambda expert: -score[expert])[: len(meant)])


@given(st.data(), st.sampled_from([(2, 1), (4, 2), (4, 4), (8, 3)]))
def test_tokens_get_what_the_scores_say(data: st.DataObject, gate: tuple[int, int]) -> None:
    num_groups, num_allowed = gate
    num_experts, top_k = num_groups * 3, data.draw(st.integers(1, 3 * num_allowed))
    tokens = data.draw(
        st.lists(st.permutations(range(num_experts)), min_size=1, max_size=5), label="tokens"
    )
    meant = np.array([token[:top_k] for token in tokens])

    found = limited_ids(
        meant, num_experts=num_experts, num_groups=num_groups, num_allowed=num_allowed
    )

    assert [set(token) for token in found.tolist()] == [
        gate_of_one_token(token, num_experts, *gate) for token in meant.tolist()
    ]
    assert found.shape == meant.shape


def test_deepseeks_gate_leaves_half_of_the_experts_idle() -> None:
    found = expected_occupancy("strided/groups:8@4", 256, 8, [1, 2, 4, 8, 16, 32, 4096], 1)

    assert found.num_active.tolist() == [8, 12, 20, 35, 66, 128, 128]


def test_the_first_rank_gets_more_than_its_share() -> None:
    found = expected_occupancy("strided/groups:8@4", 256, 8, [512], 8)

    assert found.num_rows.tolist() == [512 * 5]


@given(st.integers(1, 900))
def test_rows_of_a_stride_are_those_of_its_tokens(num_tokens: int) -> None:
    ids = draw(GATE, num_tokens=num_tokens, seed=0, **DEEPSEEK)

    rows = grouped_strided_rows(GATE, num_tokens=num_tokens, **DEEPSEEK)

    assert np.array_equal(rows, rows_per_expert(ids, 256))


@given(st.lists(st.integers(1, 70), min_size=1, max_size=3), st.integers(0, 99))
def test_rows_of_counts_are_those_of_the_collectors_tokens(tokens: list[int], seed: int) -> None:
    quantiles = np.random.default_rng(seed).random((2, 16))
    gate = Grouped(Strided(), 4, 2)
    counts = rows_with_fullest_rank_first(
        quantiles, 1.2, batch_sizes=np.array(tokens), top_k=4, ep_size=4
    ).reshape(-1, 16)
    num_tokens = np.repeat(tokens, 2)

    found = grouped_rows_of_counts(gate, counts, num_tokens, top_k=4)

    for rows, meant, num in zip(found, counts, num_tokens, strict=True):
        # aiconfigurator's collector, function _assign_experts_from_counts.
        order = np.argsort(-meant, kind="stable")
        ids = np.repeat(order, meant[order]).reshape(4, num).T
        taken = [expert for token in ids.tolist() for expert in gate_of_one_token(token, 16, 4, 2)]
        assert rows.tolist() == np.bincount(taken, minlength=16).tolist()


@given(st.integers(1, 300), st.sampled_from([1, 2, 8]), st.integers(0, 99))
def test_the_fullest_rank_comes_first_and_experts_keep_their_order(
    num_tokens: int, ep_size: int, seed: int
) -> None:
    quantiles = np.random.default_rng(seed).random((3, 16))
    sizes = {"batch_sizes": np.array([num_tokens]), "top_k": 2, "ep_size": ep_size}

    rows = rows_with_fullest_rank_first(quantiles, 1.01, **sizes)

    fullest = fullest_rank_rows(quantiles, 1.01, **sizes)
    assert np.array_equal(np.sort(rows[..., : 16 // ep_size]), fullest)
    assert (rows.sum(axis=-1) == num_tokens * 2).all()
    if ep_size == 1:
        ranked = np.take_along_axis(rows[0], np.argsort(quantiles, axis=1), axis=1)
        assert (np.diff(ranked, axis=1) >= 0).all()


def test_groups_that_cannot_bind_change_nothing() -> None:
    for text in ("power_law:1.2", "strided", "uniform"):
        plain = expected_occupancy(text, 128, 4, [3, 90], 2)
        grouped = expected_occupancy(f"{text}/groups:8@4", 128, 4, [3, 90], 2)

        assert grouped.tiles.tolist() == plain.tiles.tolist()


def test_drawn_tokens_lie_in_few_groups() -> None:
    ids = draw(parse("uniform/groups:8@4"), num_tokens=50, seed=1, **DEEPSEEK)

    assert all(len({expert // 32 for expert in token}) <= 4 for token in ids.tolist())
    assert all(len(set(token)) == 8 for token in ids.tolist())
    found = expected_occupancy("uniform/groups:8@4", 256, 8, 50, 1)
    assert 100 < found.num_active[0] < 256


@pytest.mark.parametrize(
    ("text", "layer", "message"),
    [
        ("uniform/groups:7@4", DEEPSEEK, "must divide num_experts"),
        ("uniform/groups:8@4", {"num_experts": 8, "top_k": 2}, "2 experts or more, got 1"),
        ("uniform/groups:8@1", {"num_experts": 32, "top_k": 8}, "top_k .8. experts or more, got 4"),
        ("strided/groups:2@1", {"num_experts": 6, "top_k": 4}, "slots of a token"),
    ],
)
def test_impossible_gates_are_refused(text: str, layer: dict[str, int], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        check(parse(text), num_tokens=4, **layer)
