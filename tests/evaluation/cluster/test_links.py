"""Claims about what an all-to-all costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.errors import HardwareError
from moeprof.evaluation.cluster.links import Links, rows_between
from moeprof.hardware.catalogue import gpu
from moeprof.recipe.scene import GpuSection, LinkSection, ModelSection, Scene

ALPHA_UP, ALPHA_OUT, BETA_UP, BETA_OUT = 1e-6, 1e-5, 1e9, 1e8
HIDDEN = 500  # 1000 bytes to a row


def scene(specification: str = "h200-sxm", num_gpus: int = 4, num_nodes: int = 2) -> Scene:
    return Scene(
        question="What do links cost?",
        model=ModelSection(layer="tiny"),
        gpus=GpuSection(specification=specification, num_gpus=num_gpus, num_nodes=num_nodes),
        links=LinkSection(
            scale_up_seconds=ALPHA_UP,
            scale_out_seconds=ALPHA_OUT,
            scale_up_bytes_per_second=BETA_UP,
            scale_out_bytes_per_second=BETA_OUT,
        ),
    )


def links() -> Links:
    return Links.of(scene(), gpu("h200-sxm"), HIDDEN)


def test_the_slower_kind_of_link_counts_and_both_start_up_times() -> None:
    sent = np.zeros((1, 4, 4), dtype=np.int64)
    sent[0, 0, 1] = 30  # inside the node: 30 us
    sent[0, 0, 2] = 2  # to the other node: 20 us
    sent[0, 1, 2] = 5  # rank 2 takes in 7 rows from the other node: 70 us
    sent[0, 3, 3] = 999  # stays

    found = links().transfer_seconds(sent)

    assert found[0] == pytest.approx(ALPHA_UP + ALPHA_OUT + 70e-6)


def test_a_link_that_is_not_used_does_not_start() -> None:
    sent = np.zeros((3, 4, 4), dtype=np.int64)
    sent[0, 0, 1] = sent[1, 0, 3] = 1
    sent[2] = 5 * np.eye(4, dtype=np.int64)

    found = links().transfer_seconds(sent)

    np.testing.assert_allclose(found, [ALPHA_UP + 1e-6, ALPHA_OUT + 1e-5, 0.0])


def test_dispatch_and_combine_take_the_same_time() -> None:
    sent = np.random.default_rng(0).integers(0, 9, (5, 4, 4))

    there, back = links().transfer_seconds(sent), links().transfer_seconds(sent.swapaxes(1, 2))

    np.testing.assert_allclose(there, back)


def test_rates_that_a_scene_leaves_out_are_the_cards() -> None:
    plain = scene(num_nodes=1).model_copy(update={"links": LinkSection()})

    found = Links.of(plain, gpu("h200-sxm"), HIDDEN)

    assert found.within[0, 1] == pytest.approx(1000 / 450e9)


@pytest.mark.parametrize(
    ("card", "num_nodes", "wanted"),
    [("deployment-card", 1, "links.scale_up_bytes"), ("l40s", 2, "links.scale_out_bytes")],
)
def test_a_link_whose_rate_nobody_knows_is_refused(card: str, num_nodes: int, wanted: str) -> None:
    plain = scene(card, num_nodes=num_nodes).model_copy(update={"links": LinkSection()})

    with pytest.raises(HardwareError, match=wanted):
        Links.of(plain, gpu(card), HIDDEN)


def test_one_gpu_needs_no_link() -> None:
    plain = scene("deployment-card", 1, 1).model_copy(update={"links": LinkSection()})

    found = Links.of(plain, gpu("deployment-card"), HIDDEN)

    assert found.transfer_seconds(np.array([[[7]]])) == [0.0]


@settings(deadline=None, max_examples=60)
@given(
    num_ranks=st.integers(1, 5),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 4)),
    seed=st.integers(0, 99),
)
def test_a_token_is_sent_once_to_each_rank(
    num_ranks: int, shape: tuple[int, int, int], seed: int
) -> None:
    draw = np.random.default_rng(seed)
    ranks = draw.integers(0, num_ranks, shape)
    is_used = draw.random(shape) < 0.7

    found = rows_between(ranks, is_used, num_ranks)

    expected = np.zeros((shape[0], num_ranks, num_ranks), dtype=np.int64)
    for number in range(shape[0]):
        for token in range(shape[1]):
            wanted = {
                int(ranks[number, token, slot])
                for slot in range(shape[2])
                if is_used[number, token, slot]
            }
            for rank in wanted:
                expected[number, token % num_ranks, rank] += 1
    np.testing.assert_array_equal(found, expected)
