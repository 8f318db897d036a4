"""Static placement for unequal GPUs, after GEM: ranks of different speeds finish together.

Source: arXiv:2605.19945 (GEM): one replica per expert, as many slots on every rank, a short trace
of steps by which experts that are busy together are parted, ranks loaded by their speed. GEM's
search is a heuristic; so is ours: list scheduling by longest processing time on uniform machines
(Gonzalez, Ibarra, Sahni, SIAM J. Comput. 6, 1977, pages 155-166) or dealing to and fro, then
swaps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.errors import WorkloadError
from moeprof.workload.placement import Placement

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# A swap must gain more than rounding can, or two orders of one sum could be swapped for ever.
_ROUNDING = 1e-9


def gem_placement(
    loads: ArrayLike, speeds: ArrayLike, *, slots_per_rank: int | None = None
) -> Placement:
    """Return the placement, without replicas, whose slowest rank is soon done.

    `loads`, [num_experts] or [num_steps, num_experts], in any unit: rows, or seconds on a GPU of
    speed 1, which may count a busy expert's weights. `speeds`, [num_ranks], relative. A step takes
    as long as its slowest rank, the sum of whose loads is divided by its speed; the sum over steps
    is what is made small, then, at the same sum, the ranks' squared times. With several steps,
    experts that are busy together are kept apart. `slots_per_rank` is what a rank has room for,
    by default its even share, rounded up.

    The answer is one that no swap of two experts, and no move to a free slot, makes better, and is
    never worse than the contiguous placement; the optimum it need not be (the problem is NP-hard).

    Raises WorkloadError: loads that are negative or not finite, speeds that are not positive, a
    wrong shape, or too few slots.
    """
    steps, speed = _checked(loads, speeds)
    num_experts, num_ranks = steps.shape[1], len(speed)
    share = -(-num_experts // num_ranks)
    num_slots = share if slots_per_rank is None else slots_per_rank
    if num_slots < share:
        raise WorkloadError(
            f"placement gem: slots_per_rank must be at least {share} for {num_experts} experts on "
            f"{num_ranks} ranks, got {num_slots}"
        )
    # Free slots are experts without load, so that a move is a swap too.
    free = num_slots * num_ranks - num_experts
    filled = np.concatenate([steps, np.zeros((len(steps), free))], axis=1)

    def cost(home: NDArray[np.int64]) -> tuple[float, float]:
        return _cost(_finish(filled, speed, home))

    starts = (_longest_first(filled, speed, num_slots), _to_and_fro(filled, speed, num_slots))
    home = min((_swapped_until_stable(filled, speed, start) for start in starts), key=cost)
    contiguous = _contiguous(num_experts, num_ranks, num_slots)
    if cost(contiguous) < cost(home):
        home = _swapped_until_stable(filled, speed, contiguous)
    ranks = (np.flatnonzero(home[:num_experts] == rank) for rank in range(num_ranks))
    return Placement("gem", tuple(tuple(rank.tolist()) for rank in ranks))


def _checked(
    loads: ArrayLike, speeds: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    steps = np.asarray(loads, dtype=np.float64)
    if steps.ndim == 1:
        steps = steps[np.newaxis]
    speed = np.asarray(speeds, dtype=np.float64)
    if steps.ndim != 2 or 0 in steps.shape:  # noqa: PLR2004 - steps and experts
        raise WorkloadError(
            "placement gem: loads must be [num_experts] or [num_steps, num_experts], "
            f"got shape {list(np.shape(loads))}"
        )
    if speed.ndim != 1 or not len(speed):
        raise WorkloadError(
            f"placement gem: speeds must be [num_ranks], got shape {list(speed.shape)}"
        )
    if not (np.isfinite(steps) & (steps >= 0)).all():
        worst = steps[~(np.isfinite(steps) & (steps >= 0))][0]
        raise WorkloadError(f"placement gem: loads must be finite and at least 0, got {worst}")
    if not (np.isfinite(speed) & (speed > 0)).all():
        worst = speed[~(np.isfinite(speed) & (speed > 0))][0]
        raise WorkloadError(f"placement gem: speeds must be finite and above 0, got {worst}")
    # Units of a mean step on a mean rank: sums of squares neither vanish nor overflow.
    return steps / (steps.mean() or 1.0), speed / speed.mean()


def _longest_first(
    steps: NDArray[np.float64], speed: NDArray[np.float64], num_slots: int
) -> NDArray[np.int64]:
    """Place experts by falling load, each where the steps' slowest ranks grow least.

    Ties go to the earlier finish, then to the lower rank; of equal loads the lower expert is first.
    """
    home = np.empty(steps.shape[1], dtype=np.int64)
    finish = np.zeros((len(steps), len(speed)))
    room = np.full(len(speed), num_slots)
    for expert in np.argsort(-steps.sum(axis=0), kind="stable"):
        then = finish + steps[:, expert, np.newaxis] / speed
        peak = np.maximum(then, finish.max(axis=1, keepdims=True)).sum(axis=0)
        full = room == 0
        rank = np.lexsort((then.sum(axis=0), peak, full))[0]
        home[expert] = rank
        finish[:, rank] = then[:, rank]
        room[rank] -= 1
    return home


def _to_and_fro(
    steps: NDArray[np.float64], speed: NDArray[np.float64], num_slots: int
) -> NDArray[np.int64]:
    """Deal experts by falling load to the ranks by falling speed, then by rising, and so on."""
    fastest = np.argsort(-speed, kind="stable")
    home = np.empty(steps.shape[1], dtype=np.int64)
    rounds = [fastest if turn % 2 == 0 else fastest[::-1] for turn in range(num_slots)]
    home[np.argsort(-steps.sum(axis=0), kind="stable")] = np.concatenate(rounds)
    return home


def _contiguous(num_experts: int, num_ranks: int, num_slots: int) -> NDArray[np.int64]:
    """Give neighbouring experts one rank, as `place` does, and free slots what is left."""
    sizes = [len(part) for part in np.array_split(np.arange(num_experts), num_ranks)]
    left = [num_slots - size for size in sizes]
    ranks = np.arange(num_ranks)
    return np.concatenate([np.repeat(ranks, sizes), np.repeat(ranks, left)])


def _finish(
    steps: NDArray[np.float64], speed: NDArray[np.float64], home: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return when each rank is done, [num_steps, num_ranks]."""
    sums = [steps[:, home == rank].sum(axis=1) for rank in range(len(speed))]
    return np.stack(sums, axis=1) / speed


def _cost(finish: NDArray[np.float64]) -> tuple[float, float]:
    return float(finish.max(axis=1).sum()), float((finish**2).sum())


def _swapped_until_stable(
    steps: NDArray[np.float64], speed: NDArray[np.float64], home: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Swap each expert, the most loaded first, with its best partner until no swap helps."""
    home = home.copy()
    heaviest = np.argsort(-steps.sum(axis=0), kind="stable").tolist()
    finish = _finish(steps, speed, home)
    helped = True
    while helped:
        helped = False
        for expert in heaviest:
            partner = _best_partner(expert, steps, speed, home, finish)
            if partner is not None:
                home[[expert, partner]] = home[[partner, expert]]
                finish = _finish(steps, speed, home)
                helped = True
    return home


def _best_partner(
    expert: int,
    steps: NDArray[np.float64],
    speed: NDArray[np.float64],
    home: NDArray[np.int64],
    finish: NDArray[np.float64],
) -> int | None:
    """Return whom to swap `expert` with for the least cost, None where no swap helps."""
    here = home[expert]
    gained = steps - steps[:, [expert]]
    then_here = finish[:, [here]] + gained / speed[here]
    then_there = finish[:, home] - gained / speed[home]
    others = _slowest_other(finish, int(here))[:, home]
    peaks = np.maximum(others, np.maximum(then_here, then_there)).sum(axis=0)
    squares = (then_here**2 + then_there**2 - finish[:, [here]] ** 2 - finish[:, home] ** 2).sum(
        axis=0
    )
    peak, square = _cost(finish)
    lower = peaks < peak * (1 - _ROUNDING)
    flatter = (peaks <= peak) & (squares < -_ROUNDING * square)
    helps = (lower | flatter) & (home != here)
    if not helps.any():
        return None
    return int(np.lexsort((squares, np.where(helps, peaks, np.inf)))[0])


def _slowest_other(finish: NDArray[np.float64], here: int) -> NDArray[np.float64]:
    """Return, per step and rank, the slowest rank that is neither that one nor `here`."""
    rest = finish.copy()
    rest[:, here] = 0.0
    slowest = rest.argmax(axis=1)[:, np.newaxis]
    answer = np.repeat(np.take_along_axis(rest, slowest, axis=1), rest.shape[1], axis=1)
    np.put_along_axis(rest, slowest, 0.0, axis=1)
    np.put_along_axis(answer, slowest, rest.max(axis=1, keepdims=True), axis=1)
    return answer
