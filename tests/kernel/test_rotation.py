from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from moeprof.kernel.rotation import MAX_BUFFER_SETS, rotation
from moeprof.workload.layer import MoELayer
from moeprof.workload.workload import Workload


def workload(rows: Any, size: int = 64) -> Workload:
    layer = MoELayer(name="l", hidden_size=size, expert_size=size, num_experts=64, top_k=2)
    return Workload("m", layer, "bf16", "bf16", 4, "given", 0, "none", 1, 0, 1, tuple(rows))


@given(
    rows=st.lists(st.integers(0, 3), min_size=1, max_size=40).filter(any),
    l2_bytes=st.integers(1, 2_000_000),
)
def test_cold_sets_share_no_slot_and_exceed_the_cache_fivefold(rows: Any, l2_bytes: int) -> None:
    given_rows = workload(rows)
    found = rotation(given_rows, l2_state="cold", l2_bytes=l2_bytes)
    slots = [
        first + expert
        for first in found.first_slots
        for expert, num_rows in enumerate(rows)
        if num_rows
    ]

    assert found.l2_state == "cold"
    assert len(set(slots)) == len(slots)
    assert len(slots) * given_rows.bytes_per_expert >= 5 * l2_bytes
    assert found.first_slots[-1] + len(rows) <= found.num_slots


def test_layers_larger_than_the_cache_need_one_set() -> None:
    assert rotation(workload([1] * 8), l2_state="cold", l2_bytes=100).first_slots == (0,)


def test_warm_is_one_set() -> None:
    found = rotation(workload([1, 0]), l2_state="warm", l2_bytes=10**6)

    assert (found.first_slots, found.l2_state) == ((0,), "warm")


def test_layers_too_small_for_the_cache_are_labelled_warm() -> None:
    found = rotation(workload([1], size=1), l2_state="cold", l2_bytes=10**8)

    assert len(found.first_slots) == MAX_BUFFER_SETS
    assert found.l2_state == "warm"


def test_one_pool_serves_every_batch_of_a_sweep() -> None:
    slots = {
        rotation(workload(rows), l2_state="cold", l2_bytes=10**6).num_slots
        for rows in ([1] + [0] * 31, [1] * 32, [1, 0] * 16)
    }

    assert len(slots) <= 2
