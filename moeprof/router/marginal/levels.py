"""Which experts are worth their cost: the makespan that loses least, found over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from moeprof.router.marginal.ranked import Ranked, ranked
from moeprof.router.marginal.worth import WHOLE

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.router.marginal.buffers import Buffers
    from moeprof.router.marginal.conditions import Conditions
    from moeprof.router.marginal.curve import StepCurve
    from moeprof.router.marginal.worth import Worth

_SLACK: Final = 1e-6  # in experts; a level is a whole number of them on some rank
_LEAST: Final = 1e-9  # in experts; a makespan that costs can be divided by


@dataclass(frozen=True, slots=True, eq=False)
class Trade:
    """What gate mass is weighed against: lambda and the GPUs, and how cost grows on them.

    On no rank are there more than `num_levels` experts. Worth is a sum over `num_tokens`.
    """

    conditions: Conditions
    curve: StepCurve
    energy_fraction: float
    num_levels: int
    num_tokens: int


def worth_keeping(worth: Worth, home: Tensor, trade: Trade, buffers: Buffers) -> Tensor:
    """Return which experts the batch may use, bool, [num_experts].

    Kept are the experts that make least of: the gate mass that the batch loses, a mean per token,
    plus lambda times the step's cost over that of the plain one. Cost is makespan, the slowest
    rank's seconds, and by `energy_fraction` joules. `home`, [num_experts], is each one's rank.

    Given a makespan, every rank keeps the experts of the greatest worth that it has time for, so
    only makespans have to be tried: all those that some rank reaches with a whole number of
    experts. Protected experts are kept always, unused ones never; at lambda 0 all are kept.
    """
    some = ranked(worth, _joule_price(worth, trade, buffers), home, buffers)
    makespans = _makespans(some, trade, buffers)
    counts = _counts(makespans, some, trade, buffers)
    quota = _cheapest(makespans, counts, some, trade, buffers)
    usable = some.first_of_each(quota, buffers)
    free = torch.le(trade.conditions.trade, 0, out=buffers("free", (), torch.bool))
    return usable.logical_or_(free)


def _joule_price(worth: Worth, trade: Trade, buffers: Buffers) -> Tensor:
    """Return the worth that joules ask of an expert on each rank, [num_ranks], int64."""
    conditions = trade.conditions
    by_rank = (len(conditions.slowness),)
    is_used = torch.gt(worth.rows, 0, out=buffers("priced used", (len(worth.rows),), torch.bool))
    num_used = torch.sum(is_used, dim=0, out=buffers("all used", (), torch.int64))
    joules = buffers("plain joules", (), torch.float64).copy_(num_used)
    joules.add_(trade.curve.static_experts).clamp_(min=_LEAST)
    price = buffers("joule price", by_rank, torch.float64)
    torch.mul(conditions.slowness, conditions.hunger, out=price)
    price.mul_(conditions.trade).mul_(trade.energy_fraction * trade.num_tokens * WHOLE)
    return buffers("whole price", by_rank, torch.int64).copy_(price.div_(joules).round_())


def _makespans(some: Ranked, trade: Trade, buffers: Buffers) -> Tensor:
    """Return the makespans to try, [num_tries], none below what protected experts take."""
    slowness, launch = trade.conditions.slowness, trade.curve.launch_experts
    width = trade.num_levels + 1
    steps = buffers("steps", (width,), torch.float64)
    torch.arange(width, out=steps)
    tries = buffers("tries", (len(slowness), width), torch.float64)
    torch.mul(slowness.unsqueeze(1), steps.add_(launch), out=tries)
    least = _makespan(some.num_protected, trade, buffers, "protected")
    return torch.maximum(tries, least, out=tries).view(-1)


def _counts(makespans: Tensor, some: Ranked, trade: Trade, buffers: Buffers) -> Tensor:
    """Return how many experts each rank keeps at each makespan, [num_tries, num_ranks]."""
    slowness = trade.conditions.slowness
    shape = (len(makespans), len(slowness))
    room = buffers("room", shape, torch.float64)
    torch.div(makespans.unsqueeze(1), slowness, out=room)
    room.sub_(trade.curve.launch_experts - _SLACK).floor_().clamp_(min=0, max=trade.num_levels)
    counts = buffers("counts", shape, torch.int64).copy_(room)
    return torch.minimum(counts, some.num_good, out=counts)


def _cheapest(
    makespans: Tensor, counts: Tensor, some: Ranked, trade: Trade, buffers: Buffers
) -> Tensor:
    """Return how many experts each rank keeps at the best makespan, [num_ranks]."""
    num_tries, num_ranks = counts.shape
    columns = buffers("columns", (num_ranks, num_tries), torch.int64).copy_(counts.T)
    gathered = buffers("gathered", (num_ranks, num_tries), torch.int64)
    torch.gather(some.kept_gain(trade.num_levels, buffers), 1, columns, out=gathered)
    kept = torch.sum(gathered, dim=0, out=buffers("kept", (num_tries,), torch.int64))
    cost = buffers("cost", (num_tries,), torch.float64).copy_(makespans)
    cost.div_(_makespan(some.num_used, trade, buffers, "plain"))
    cost.mul_(trade.conditions.trade).mul_(1 - trade.energy_fraction)
    lost = buffers("lost", (num_tries,), torch.float64).copy_(kept)
    cost.add_(lost.div_(-trade.num_tokens * WHOLE))
    best = torch.argmin(cost, dim=0, keepdim=True, out=buffers("best try", (1,), torch.int64))
    quota = buffers("best counts", (1, num_ranks), torch.int64)
    return torch.index_select(counts, 0, best, out=quota).view(-1)


def _makespan(counts: Tensor, trade: Trade, buffers: Buffers, name: str) -> Tensor:
    """Return the slowest rank's seconds with so many experts each, [], in an expert's seconds."""
    seconds = buffers(f"{name} seconds", (len(counts),), torch.float64).copy_(counts)
    seconds.add_(trade.curve.launch_experts).mul_(trade.conditions.slowness)
    longest = buffers(f"{name} makespan", (), torch.float64)
    return torch.amax(seconds, dim=0, out=longest).clamp_(min=_LEAST)
