"""Which expert, or which replica of it, sits on which rank of an expert-parallel group."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.errors import WorkloadError
from moeprof.workload.eplb import rebalance_experts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

STRATEGIES: Final[dict[str, str]] = {
    "contiguous": "neighbouring experts on one rank, the first ranks one more if need be",
    "round-robin": "expert e on rank e modulo the number of ranks",
    "random": "a seeded shuffle, ranks differing by at most one expert",
    "one-expert-per-gpu": "expert e alone on rank e",
    "eplb": "DeepSeek's balancer: replicates hot experts and evens out the ranks' load",
}


@dataclass(frozen=True, slots=True)
class Placement:
    """The experts on every rank; an expert in more than one slot has that many replicas."""

    strategy: str
    ranks: tuple[tuple[int, ...], ...]
    """Per rank, the ids of the experts in its slots, in slot order."""

    @property
    def num_ranks(self) -> int:
        """The size of the expert-parallel group."""
        return len(self.ranks)


def place(
    strategy: str,
    *,
    num_experts: int,
    num_ranks: int,
    seed: int,
    loads: ArrayLike | None = None,
    num_replicas: int = 0,
    num_nodes: int = 1,
    num_groups: int = 1,
) -> Placement:
    """Return the placement that `strategy`, one of `STRATEGIES`, makes.

    There are num_experts + num_replicas slots. EPLB fills the extra ones with hot experts; the
    others number the slots and put expert s modulo num_experts into slot s, as serving engines do
    before they have seen any load. `seed` matters to `random` only; `loads` ([num_experts], any
    unit), `num_nodes` and `num_groups` to `eplb` only.

    Raises WorkloadError: no such strategy, a rank that would be left empty, replicas where the
    strategy allows none, loads missing, or a number that EPLB cannot divide.
    """
    if strategy not in STRATEGIES:
        message = f"placement: no strategy is called {strategy!r}"
        raise WorkloadError(message, hint=_suggestion(strategy))
    if num_experts < 1 or num_ranks < 1 or num_replicas < 0:
        message = (
            f"placement {strategy}: num_experts and num_ranks must be at least 1 and "
            f"num_replicas at least 0, got {num_experts}, {num_ranks} and {num_replicas}"
        )
        raise WorkloadError(message)
    num_slots = num_experts + num_replicas
    if strategy == "one-expert-per-gpu" and not num_slots == num_ranks == num_experts:
        message = (
            f"placement {strategy}: must have {num_experts} ranks (num_experts) and no replicas, "
            f"got {num_ranks} ranks and {num_replicas} replicas"
        )
        raise WorkloadError(message, hint="Use contiguous, or eplb for replicas.")
    if num_ranks > num_slots:
        message = (
            f"placement {strategy}: num_ranks must lie in 1..{num_slots} (experts and replicas), "
            f"got {num_ranks}"
        )
        raise WorkloadError(
            message,
            hint="Use fewer ranks or more replicas: a rank without an expert has nothing to do.",
        )
    slots = np.arange(num_slots) % num_experts
    match strategy:
        case "contiguous" | "one-expert-per-gpu":
            ranks = np.array_split(slots, num_ranks)
        case "round-robin":
            ranks = [slots[rank::num_ranks] for rank in range(num_ranks)]
        case "random":
            ranks = np.array_split(np.random.default_rng(seed).permutation(slots), num_ranks)
        case _:  # eplb, the one strategy that looks at the load
            weight = _checked_loads(loads, num_experts)[np.newaxis]
            plan = rebalance_experts(weight, num_slots, num_groups, num_nodes, num_ranks)
            ranks = np.split(plan.physical_to_logical[0], num_ranks)
    return Placement(strategy, tuple(tuple(rank.tolist()) for rank in ranks))


def rows_per_rank(ids: NDArray[np.int64], placement: Placement) -> tuple[NDArray[np.int64], ...]:
    """Return per rank the rows of each of its slots, [num_local_slots], in slot order.

    `ids`, of any shape, are the experts of a batch. The rows of an expert with c replicas are
    dealt to them in turn, in the order of ranks and slots, so row j goes to replica j modulo c.
    Every row goes somewhere: the arrays sum to `ids.size`.

    Raises WorkloadError: an id of an expert that is on no rank.
    """
    slots = np.concatenate([np.array(rank, dtype=np.int64) for rank in placement.ranks])
    num_ids = 1 + max(int(slots.max()), int(ids.max(initial=0)))
    rows = np.bincount(ids.ravel(), minlength=num_ids)
    num_replicas = np.bincount(slots, minlength=num_ids)
    homeless = np.flatnonzero((rows > 0) & (num_replicas == 0))
    if len(homeless):
        message = f"placement {placement.strategy}: expert {homeless[0]} has rows and is on no rank"
        raise WorkloadError(message, hint="Place and route for the same number of experts.")
    # Sorting by expert, stably, makes the distance to an expert's first slot the replica's number.
    order = np.argsort(slots, kind="stable")
    replica = np.empty_like(slots)
    first = np.cumsum(num_replicas) - num_replicas
    replica[order] = np.arange(len(slots)) - first[slots[order]]
    whole, left = np.divmod(rows[slots], num_replicas[slots])
    dealt = whole + (replica < left)
    borders = np.cumsum([len(rank) for rank in placement.ranks])[:-1]
    return tuple(np.split(dealt, borders))


def _checked_loads(loads: ArrayLike | None, num_experts: int) -> NDArray[np.float64]:
    if loads is None:
        message = (
            f"placement eplb: loads must be given, one for each of {num_experts} experts, got none"
        )
        raise WorkloadError(
            message, hint="Count rows per expert over a recording or over earlier batches."
        )
    checked = np.asarray(loads, dtype=np.float64)
    if checked.shape != (num_experts,):
        message = f"placement eplb: loads must be [{num_experts}], got {list(checked.shape)}"
        raise WorkloadError(message)
    return checked


def _suggestion(strategy: str) -> str:
    close = difflib.get_close_matches(strategy.lower().replace("_", "-"), STRATEGIES, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    return f"The strategies are {', '.join(STRATEGIES)}."
