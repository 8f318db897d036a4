"""A placement as tensors on a device: the ranks that each expert may be computed on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext
    from moeprof.workload.placement import Placement


@dataclass(frozen=True, slots=True, eq=False)
class Replicas:
    """Where the experts of one layer sit."""

    num_ranks: int
    ranks: Tensor
    """[num_experts, most_replicas]: the ranks of each expert's replicas, rising, in the order of
    slots; padded with the expert's first rank, so that every entry holds the expert."""
    counts: Tensor
    """[num_experts]: the replicas of each expert. Two on one rank count as two here, and as one
    active expert there."""
    sole: Tensor
    """The experts that sit on one rank only, rising."""
    contested: Tensor
    """The experts that sit on several ranks, rising."""
    waves: tuple[Tensor, ...]
    """The contested experts by rising number of ranks and expert, in groups without a common rank:
    what one expert of a group chooses cannot matter to another of it."""

    @property
    def num_experts(self) -> int:
        """The experts of the layer."""
        return len(self.counts)


def replicas_of(context: RoutingContext, dispatcher: str, routing: Routing) -> Replicas:
    """Return where the experts of a context's placement sit, on the device of `routing`.

    The tensors are made at the first call and kept. `dispatcher` is the name for the message.

    Raises WorkloadError: the context has no placement, or one of other experts.
    """
    if context.placement is None:
        raise WorkloadError(
            f"dispatcher {dispatcher}, layer {context.layer}: needs a placement, got none",
            hint="Give the routing context the placement of the model's experts.",
        )
    return replica_tensors(context.placement, context.rule.num_experts, routing.experts.device)


@lru_cache(maxsize=256)  # the layers of a deep model, each with a placement of its own
def replica_tensors(placement: Placement, num_experts: int, device: torch.device) -> Replicas:
    """Return a placement of experts 0..num_experts - 1 as tensors on `device`.

    Raises WorkloadError: the placement is of other experts.
    """
    homes: list[list[int]] = [[] for _ in range(num_experts)]
    for rank, experts in enumerate(placement.ranks):
        for expert in experts:
            if not 0 <= expert < num_experts:
                raise _not_for(placement, num_experts, f"expert {expert} on rank {rank}")
            homes[expert].append(rank)
    if homeless := [expert for expert, ranks in enumerate(homes) if not ranks]:
        raise _not_for(placement, num_experts, f"no rank for expert {homeless[0]}")
    most = max(map(len, homes))
    padded = [ranks + ranks[:1] * (most - len(ranks)) for ranks in homes]
    contested = [expert for expert, ranks in enumerate(homes) if len(set(ranks)) > 1]
    sole = sorted(set(range(num_experts)) - set(contested))

    def on_device(values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return Replicas(
        num_ranks=placement.num_ranks,
        ranks=on_device(padded),
        counts=on_device([len(ranks) for ranks in homes]),
        sole=on_device(sole),
        contested=on_device(contested),
        waves=tuple(on_device(wave) for wave in _waves(contested, homes)),
    )


def _waves(contested: list[int], homes: list[list[int]]) -> list[list[int]]:
    """Put each expert, in turn, into the wave after those of the earlier ones it shares ranks with.

    So that one wave after another comes to the same as one expert after another.
    """
    waves: list[list[int]] = []
    last_of_rank: dict[int, int] = {}
    for expert in sorted(contested, key=lambda expert: (len(set(homes[expert])), expert)):
        wave = 1 + max(last_of_rank.get(rank, -1) for rank in homes[expert])
        if wave == len(waves):
            waves.append([])
        waves[wave].append(expert)
        last_of_rank.update(dict.fromkeys(homes[expert], wave))
    return waves


def _not_for(placement: Placement, num_experts: int, found: str) -> WorkloadError:
    return WorkloadError(
        f"placement {placement.strategy}: must hold experts 0..{num_experts - 1}, got {found}",
        hint="Make the placement for the model's number of experts.",
    )
