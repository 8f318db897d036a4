from __future__ import annotations

import pytest
import torch
from kernel.engines.conftest import PARTIAL, ROUTINGS, a_device, a_workload

from moeprof.errors import DeviceOutOfMemory
from moeprof.kernel.buffers import allocate
from moeprof.kernel.engines.layouts import kept_layout, up_first
from moeprof.kernel.engines.slots import global_slots, slots_of


def _buffers(rows: tuple[int, ...], ep: tuple[int, int] = (1, 0)) -> object:
    point = a_workload(rows, ep=ep)
    return allocate(point, a_device(), l2_state="warm", seed=1, combined=True)


@pytest.mark.parametrize("rows", ROUTINGS.values(), ids=ROUTINGS)
def test_slots_have_every_row_once_with_its_weight(rows: tuple[int, ...]) -> None:
    buffers = _buffers(rows)
    slots = slots_of(buffers)
    present = slots.experts >= 0

    assert torch.bincount(slots.experts[present], minlength=8).tolist() == list(rows)
    assert torch.equal(slots.weights[present].sort()[0], buffers.row_weights.sort()[0])
    assert not slots.weights[~present].any()
    assert slots.num_absent == slots.experts.numel() - sum(rows)


def test_one_full_rank_needs_no_map() -> None:
    buffers = _buffers(ROUTINGS["full"])
    everywhere = global_slots(buffers, slots_of(buffers))

    assert everywhere.expert_map is None
    assert (everywhere.ep_size, everywhere.num_experts) == (1, 8)


@pytest.mark.parametrize("ep", [(1, 0), (2, 0), (2, 1), (4, 3)])
def test_the_map_brings_back_local_experts_and_drops_absent_ones(ep: tuple[int, int]) -> None:
    buffers = _buffers(PARTIAL, ep)
    slots = slots_of(buffers)
    everywhere = global_slots(buffers, slots)

    assert everywhere.expert_map is not None
    assert everywhere.expert_map.numel() == everywhere.num_experts == 4 * everywhere.ep_size
    assert torch.equal(everywhere.expert_map[everywhere.experts.long()], slots.experts)
    assert everywhere.expert_map[4 * everywhere.ep_rank].item() == 0


def test_up_first_exchanges_halves_and_copies() -> None:
    pool = torch.arange(24.0).view(2, 4, 3)
    swapped = up_first(pool)

    assert torch.equal(swapped[:, :2], pool[:, 2:])
    assert torch.equal(swapped[:, 2:], pool[:, :2])
    assert swapped.data_ptr() != pool.data_ptr()


def test_a_layout_is_made_once_a_bank_and_counted() -> None:
    bank = _buffers(PARTIAL).bank
    made = []

    def make() -> int:
        made.append(1)
        return len(made)

    def again(free: int, name: str = "a") -> int:
        return kept_layout(bank, name, make, a_device(free=free), extra_bytes=1000)

    assert (again(2000), again(0)) == (1, 1)
    with pytest.raises(DeviceOutOfMemory, match="in the order of b need 1000 bytes; 0 bytes"):
        again(0, "b")
    assert again(2000) == 2
