"""The experts and weights of every token's slots, in the forms in which engines take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moeprof.kernel.assignment import assign

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.kernel.buffers import Buffers


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of all tokens: `experts` int32 and `weights` fp32, both `[num_tokens, top_k]`.

    `experts` are local, -1 where the slot's expert is on another rank, and its weight is 0.
    `num_absent` counts those.
    """

    experts: Tensor
    weights: Tensor
    num_absent: int


@dataclass(frozen=True, slots=True)
class GlobalSlots:
    """Slots whose experts are numbered over all ranks, each holding as many, one after the other.

    `experts` int32 `[num_tokens, top_k]`; `expert_map` int32 `[num_experts]` has the local expert,
    -1 on other ranks, or is None where there is one rank only. `ep_size` is the workload's, or 2
    where one rank is all there is and slots are absent all the same.
    """

    experts: Tensor
    expert_map: Tensor | None
    num_experts: int
    ep_size: int
    ep_rank: int


def slots_of(buffers: Buffers) -> Slots:
    """Return the slots of the buffers' tokens, on their device."""
    here = buffers.token_rows.device
    experts = torch.from_numpy(assign(buffers.workload).topk_experts).to(here)
    rows = buffers.token_rows.long()
    weights = torch.where(rows >= 0, buffers.row_weights[rows.clamp(min=0)], 0.0)
    return Slots(experts, weights, int((experts < 0).sum()))


def global_slots(buffers: Buffers, slots: Slots) -> GlobalSlots:
    """Return slots numbered over all ranks; absent ones are dealt to the next rank's experts."""
    workload = buffers.workload
    num_local = workload.num_local_experts
    ep_size = max(workload.ep_size, 2 if slots.num_absent else 1)
    if ep_size == 1:
        return GlobalSlots(slots.experts, None, num_local, 1, 0)
    here = slots.experts.device
    first = workload.ep_rank * num_local
    elsewhere = (workload.ep_rank + 1) % ep_size * num_local
    dealt = torch.arange(slots.experts.numel(), dtype=torch.int32, device=here) % num_local
    experts = torch.where(
        slots.experts >= 0, slots.experts + first, dealt.view_as(slots.experts) + elsewhere
    )
    expert_map = torch.full((ep_size * num_local,), -1, dtype=torch.int32, device=here)
    expert_map[first : first + num_local] = torch.arange(num_local, dtype=torch.int32, device=here)
    return GlobalSlots(experts, expert_map, ep_size * num_local, ep_size, workload.ep_rank)
