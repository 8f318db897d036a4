"""Which experts are worth their cost: the makespan that loses least, found over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from moeprof.router.marginal.ranked import Ranked, per_rank, ranked
from moeprof.router.marginal.worth import WHOLE

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.router.marginal.buffers import Buffers
    from moeprof.router.marginal.conditions import Conditions
    from moeprof.router.marginal.curve import StepCurve
    from moeprof.router.marginal.worth import Worth

_SLACK: Final = 1e-6  # in experts; a level is a whole number of them on some rank
_LEAST: Final = 1e-9  # in experts; a makespan that costs can be divided by
_PARTS: Final = 1 << 40  # joules are added up in whole parts, in any order alike


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
    rank's seconds, and by `energy_fraction` joules: an expert's are its rank's slowness times
    hunger, static ones those of the mean rank, and they go with the makespan. A rank with n
    experts takes slowness * (launch + n) seconds, and none without any. `home`, [num_experts], is
    each one's rank.

    Given a makespan, every rank keeps the experts of the greatest worth that it has time for, so
    only makespans have to be tried: all those that some rank reaches with a whole number of
    experts. Of equally good ones the shortest is taken. Protected experts are kept always, unused
    ones never; at lambda 0 all are kept. Only ratios of slowness, and of hunger, matter.
    """
    num_ranks = len(trade.conditions.slowness)
    flags = (worth.is_protected, worth.is_used)
    counts = per_rank("protected and used", home, flags, num_ranks, buffers)
    slowness = _relative(trade.conditions.slowness, "relative slowness", buffers)
    price = share = None
    if trade.energy_fraction:
        price, share = _joules(counts[1], trade, buffers)
    some = ranked(worth, price, home, num_ranks, buffers)
    # The least makespan, which protected experts take, and that of the plain step.
    bounds = _longest(counts, slowness, trade, buffers)
    makespans = _makespans(bounds[:1], slowness, trade, buffers)
    kept = _counts(makespans, slowness, some, trade, buffers)
    quota = _cheapest(makespans, bounds[1:], kept, some, trade, buffers, share)
    usable = some.first_of_each(quota, buffers)
    free = torch.le(trade.conditions.trade, 0, out=buffers("free", (), torch.bool))
    return usable.logical_or_(free)


def _relative(values: Tensor, name: str, buffers: Buffers) -> Tensor:
    """Return values, [num_ranks], over the greatest: exactly 1 where all are alike."""
    greatest = torch.amax(values, dim=0, out=buffers(("most", name), (), torch.float64))
    return torch.div(values, greatest, out=buffers(name, tuple(values.shape), torch.float64))


def _joules(num_used: Tensor, trade: Trade, buffers: Buffers) -> tuple[Tensor, Tensor]:
    """Return the worth that joules ask of an expert on each rank, [num_ranks], int64.

    And how much of cost goes with the makespan, []: seconds, and the joules that all ranks burn
    while the step lasts.
    """
    conditions, num_ranks = trade.conditions, len(num_used)
    by_rank = (num_ranks,)
    joules = buffers("joules", by_rank, torch.float64)
    torch.mul(conditions.slowness, conditions.hunger, out=joules)
    relative = _relative(joules, "relative joules", buffers).mul_(_PARTS).round_()
    parts = buffers("parts of joules", by_rank, torch.int64).copy_(relative)
    static = torch.sum(parts, dim=0, out=buffers("static joules", (), torch.int64))
    spent = torch.mul(parts, num_used, out=buffers("spent joules", by_rank, torch.int64))
    plain = buffers("plain joules", (), torch.float64).copy_(
        torch.sum(spent, dim=0, out=buffers("all joules", (), torch.int64))
    )
    resting = buffers("resting joules", (), torch.float64).copy_(static)
    plain.add_(resting, alpha=trade.curve.static_experts / num_ranks).clamp_(min=_LEAST)
    relative.div_(plain).mul_(conditions.trade)
    relative.mul_(trade.energy_fraction * trade.num_tokens * WHOLE)
    price = buffers("joule price", by_rank, torch.int64).copy_(relative.round_())
    share = resting.mul_(trade.curve.static_experts / num_ranks).div_(plain)
    return price, share.mul_(trade.energy_fraction).add_(1 - trade.energy_fraction)


def _longest(counts: Tensor, slowness: Tensor, trade: Trade, buffers: Buffers) -> Tensor:
    """Return the slowest rank's seconds, [num_cases], with so many experts on each.

    `counts`, [num_cases, num_ranks]. Seconds are in those that an expert takes on the slowest rank.
    """
    shape = tuple(counts.shape)
    seconds = buffers("seconds", shape, torch.float64).copy_(counts)
    seconds.add_(trade.curve.launch_experts).mul_(slowness)
    has_none = torch.logical_not(counts, out=buffers("has none", shape, torch.bool))
    seconds.masked_fill_(has_none, 0.0)
    longest = buffers("longest", shape[:1], torch.float64)
    return torch.amax(seconds, dim=1, out=longest)


def _makespans(least: Tensor, slowness: Tensor, trade: Trade, buffers: Buffers) -> Tensor:
    """Return the makespans to try, [num_tries], rising, none below `least`, [1]."""
    num_ranks, width = len(slowness), trade.num_levels
    launch = trade.curve.launch_experts
    steps = buffers.constant(
        ("steps", width, launch), lambda: torch.arange(1, width + 1, dtype=torch.float64) + launch
    )
    shape = (num_ranks * width + 1,)
    tries = buffers("tries", shape, torch.float64)
    tries[:1].zero_()
    torch.mul(slowness.unsqueeze(1), steps, out=tries[1:].view(num_ranks, width))
    torch.maximum(tries, least, out=tries)
    if num_ranks == 1:
        return tries
    # Ranks have no order of their own, so that equally good makespans need one.
    rising = buffers("rising tries", shape, torch.float64)
    torch.sort(tries, out=(rising, buffers("order of tries", shape, torch.int64)))
    return rising


def _counts(
    makespans: Tensor, slowness: Tensor, some: Ranked, trade: Trade, buffers: Buffers
) -> Tensor:
    """Return how many experts each rank keeps at each makespan, [num_ranks, num_tries]."""
    shape = (len(slowness), len(makespans))
    room = buffers("room", shape, torch.float64)
    torch.div(makespans, slowness.unsqueeze(1), out=room)
    room.sub_(trade.curve.launch_experts - _SLACK).floor_().clamp_(min=0, max=trade.num_levels)
    counts = buffers("counts", shape, torch.int64).copy_(room)
    return torch.minimum(counts, some.num_good.unsqueeze(1), out=counts)


def _cheapest(
    makespans: Tensor,
    plain: Tensor,
    counts: Tensor,
    some: Ranked,
    trade: Trade,
    buffers: Buffers,
    share: Tensor | None,
) -> Tensor:
    """Return how many experts each rank keeps at the best makespan, [num_ranks].

    `share`, [], is how much of cost goes with the makespan; None: all of it.
    """
    num_ranks, num_tries = counts.shape
    gathered = buffers("gathered", (num_ranks, num_tries), torch.int64)
    torch.gather(some.kept_gain(trade.num_levels, buffers), 1, counts, out=gathered)
    kept = torch.sum(gathered, dim=0, out=buffers("kept", (num_tries,), torch.int64))
    cost = buffers("cost", (num_tries,), torch.float64)
    torch.div(makespans, plain.clamp_(min=_LEAST), out=cost)
    cost.mul_(trade.conditions.trade)
    if share is not None:
        cost.mul_(share)
    gain = buffers("kept worth", (num_tries,), torch.float64).copy_(kept)
    cost.add_(gain, alpha=-1 / (trade.num_tokens * WHOLE))
    best = torch.argmin(cost, dim=0, keepdim=True, out=buffers("best try", (1,), torch.int64))
    quota = buffers("best counts", (num_ranks, 1), torch.int64)
    return torch.index_select(counts, 1, best, out=quota).view(-1)
