"""Claims about experts that are dealt by a fixed stride."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeprof.errors import WorkloadError
from moeprof.workload.routing import check, draw, parse, rows_per_expert
from moeprof.workload.routing.strided import strided_rows

layers = st.sampled_from([(8, 2), (60, 4), (128, 6), (160, 8), (512, 22), (16, 1), (5, 5)])


@given(layers, st.integers(1, 700))
def test_rows_are_those_of_the_tokens_and_of_the_collector(
    layer: tuple[int, int], num_tokens: int
) -> None:
    num_experts, top_k = layer
    shape = {"num_tokens": num_tokens, "num_experts": num_experts, "top_k": top_k}
    stride = math.ceil(num_experts / top_k)
    spread = min(1.0, num_tokens / stride)
    expected = [
        [int(token / spread + slot * stride + 1e-9) % num_experts for slot in range(top_k)]
        for token in range(num_tokens)
    ]

    ids = draw(parse("strided"), seed=3, **shape)

    assert ids.tolist() == expected
    assert np.array_equal(strided_rows(**shape), rows_per_expert(ids, num_experts))


def test_a_batch_below_the_stride_leaves_experts_idle_in_every_stride_alike() -> None:
    rows = strided_rows(num_tokens=9, num_experts=128, top_k=8)

    assert rows.sum() == 72
    assert (rows.reshape(8, 16) == rows[:16]).all()


def test_slots_that_would_meet_are_refused() -> None:
    with pytest.raises(WorkloadError, match="slots of a token must be different experts"):
        check(parse("strided"), num_experts=6, top_k=4, num_tokens=2)


def test_it_takes_no_argument() -> None:
    assert str(parse("strided")) == "strided"
    with pytest.raises(WorkloadError, match="takes no argument"):
        parse("strided:3")
