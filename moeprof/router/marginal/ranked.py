"""A batch's experts by falling worth, and how many of its own each rank keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.router.marginal.buffers import Buffers
    from moeprof.router.marginal.worth import Worth

_PROTECTED: Final = 1 << 60  # above the worth of any expert to 2^20 tokens
_UNUSED: Final = -(1 << 60)


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Experts in the order in which their ranks would keep them.

    `order`, `home` (the rank), `place` (from 1, among those of its rank) and `gain` (the net worth
    of keeping it) are [num_experts], sorted; `num_good`, those that are worth keeping at all, is
    [num_ranks]. All are int64.
    """

    order: Tensor
    home: Tensor
    place: Tensor
    gain: Tensor
    num_good: Tensor

    def kept_gain(self, num_levels: int, buffers: Buffers) -> Tensor:
        """Return what each rank keeps with its n best experts, [num_ranks, num_levels + 1]."""
        shape = (len(self.num_good), num_levels + 1)
        gains = buffers("gains", shape, torch.int64).zero_()
        cell = buffers("cell", (len(self.home),), torch.int64)
        torch.mul(self.home, num_levels + 1, out=cell)
        cell.add_(self.place)
        gains.view(-1).scatter_add_(0, cell, self.gain)
        return torch.cumsum(gains, dim=1, out=buffers("kept gains", shape, torch.int64))

    def first_of_each(self, quota: Tensor, buffers: Buffers) -> Tensor:
        """Return whether an expert is among the first that its rank keeps, bool, [num_experts].

        `quota`, [num_ranks], is how many; the answer is in the experts' own order.
        """
        by_expert = (len(self.home),)
        mine = buffers("quota", by_expert, torch.int64)
        torch.index_select(quota, 0, self.home, out=mine)
        stays = torch.le(self.place, mine, out=buffers("stays", by_expert, torch.bool))
        return buffers("usable", by_expert, torch.bool).index_copy_(0, self.order, stays)


def ranked(
    worth: Worth, price: Tensor | None, home: Tensor, num_ranks: int, buffers: Buffers
) -> Ranked:
    """Return the experts sorted by worth, less the `price` of their ranks, [num_ranks], if any.

    `home`, [num_experts], is each one's rank. Protected experts come first, unused ones last; of
    equals the lower expert is first.
    """
    by_expert = (len(home),)
    net = buffers("net", by_expert, torch.int64)
    if price is None:
        net.copy_(worth.loss)
    else:
        torch.index_select(price, 0, home, out=net)
        torch.sub(worth.loss, net, out=net)
    unused = torch.logical_not(worth.is_used, out=buffers("unused", by_expert, torch.bool))
    net.masked_fill_(worth.is_protected, _PROTECTED).masked_fill_(unused, _UNUSED)
    best = buffers("best net", by_expert, torch.int64)
    order = buffers("order", by_expert, torch.int64)
    torch.sort(net, dim=0, descending=True, stable=True, out=(best, order))
    is_good = torch.ge(best, 0, out=buffers("is good", by_expert, torch.bool))
    sorted_home = buffers("sorted home", by_expert, torch.int64)
    torch.index_select(home, 0, order, out=sorted_home)
    # Protected experts are kept whatever happens, so they are no gain of any choice.
    first = torch.eq(best, _PROTECTED, out=buffers("first", by_expert, torch.bool))
    return Ranked(
        order=order,
        home=sorted_home,
        place=_places(sorted_home, num_ranks, buffers),
        gain=best.masked_fill_(first, 0).clamp_(min=0),
        num_good=per_rank("good per rank", sorted_home, (is_good,), num_ranks, buffers)[0],
    )


def per_rank(
    name: str, home: Tensor, flags: tuple[Tensor, ...], num_ranks: int, buffers: Buffers
) -> Tensor:
    """Return how many experts of each rank have a flag, [num_flags, num_ranks], int64.

    `home` and each of `flags`, bool, are [num_experts].
    """
    shape = (len(flags), home.shape[0])
    ones = buffers(("flags", name), shape, torch.int64)
    for row, flag in zip(ones, flags, strict=True):
        row.copy_(flag)
    counted = buffers(name, (len(flags), num_ranks), torch.int64).zero_()
    return counted.scatter_add_(1, home.expand(shape), ones)


def _places(sorted_home: Tensor, num_ranks: int, buffers: Buffers) -> Tensor:
    """Return the place, from 1, of each sorted expert among those of its rank, [num_experts]."""
    num_experts = len(sorted_home)
    if num_ranks == 1:
        return buffers.constant(("places", num_experts), lambda: torch.arange(1, num_experts + 1))
    shape, column = (num_experts, num_ranks), sorted_home.unsqueeze(1)
    here = buffers("here", shape, torch.int64).zero_()
    here.scatter_(1, column, 1)
    running = buffers("running places", shape, torch.int64)
    torch.cumsum(here, dim=0, out=running)
    place = buffers("place", (num_experts, 1), torch.int64)
    torch.gather(running, 1, column, out=place)
    return place.view(-1)
