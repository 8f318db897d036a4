"""One replica for each active expert, so that ranks of unequal speed finish together."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import torch

from moeprof.router.dispatch.replicas import replica_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.router.marginal.curve import StepCurve
    from moeprof.workload.placement import Placement

UNIT: Final = 1 << 20
"""Work is counted in whole parts of an expert, so that no order of adding it up matters."""
_TIE: Final = 2.0**-10  # in parts; of two ranks that would be done together the faster is taken


class Homes:
    """Chooses a rank for every expert of a placement; its tensors are made once.

    Experts on one rank have no choice and come first. Then, wave by wave as METRO does
    (arXiv:2512.09277, algorithm 1; see `Replicas.waves`), each goes where it would be done first:
    seconds are slowness * (launch + work), so that between equal GPUs this is METRO that counts
    rows as well. In further passes experts may move, one wave after another. Candidates stand in an
    order that no numbering of ranks changes, and so are ties decided.
    """

    @torch.inference_mode(mode=False)  # what is written into must not be an inference tensor
    def __init__(self, placement: Placement, num_experts: int, device: torch.device) -> None:
        """Raise WorkloadError: the placement is of other experts."""
        replicas = replica_tensors(placement, num_experts, device)
        self.num_ranks = placement.num_ranks
        self.most_per_rank = max(len(set(experts)) for experts in placement.ranks)
        order = sorted(range(self.num_ranks), key=lambda rank: sorted(placement.ranks[rank]))
        place = torch.tensor([order.index(rank) for rank in range(self.num_ranks)], device=device)
        ranks = replicas.ranks.gather(1, place[replicas.ranks].argsort(dim=1, stable=True))
        self._first = ranks[:, 0].contiguous()
        self._sole = replicas.sole
        self._sole_home = self._first[self._sole]
        self._contested = torch.cat(replicas.waves) if replicas.waves else replicas.contested
        self._flat = ranks[self._contested].reshape(-1).contiguous()
        num_contested, width = len(self._contested), ranks.shape[1]

        def empty(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        # Work is whole numbers in float64, which has room for all that a rank could ever do.
        self._work = empty(num_experts)
        self._sole_work = empty(len(self._sole))
        self._mine = empty(num_contested)
        self._load = empty(self.num_ranks)
        self._offset = empty(num_contested, width)
        self._slow = empty(num_contested * width)
        self._price = empty(num_contested * width)
        self._finish = empty(num_contested * width)
        self._best = empty(num_contested, 1, dtype=torch.int64)
        self._here = empty(num_contested, 1, dtype=torch.int64)
        self._home = empty(num_experts, dtype=torch.int64)
        self._waves = []
        start = 0
        for wave in replicas.waves:
            some = slice(start, start + len(wave))
            cells = slice(start * width, (start + len(wave)) * width)
            shape = (len(wave), width)
            self._waves.append(
                (
                    self._flat[cells],
                    self._flat[cells].view(shape),
                    self._offset[some].view(-1),
                    self._slow[cells],
                    self._price[cells],
                    self._finish[cells],
                    self._finish[cells].view(shape),
                    self._best[some],
                    self._here[some],
                    self._here[some][:, 0],
                    self._mine[some],
                )
            )
            start += len(wave)

    def assign(
        self,
        work: Tensor,
        slowness: Tensor,
        launch_experts: float,
        *,
        num_passes: int = 1,
        watt_prices: Tensor | None = None,
    ) -> Tensor:
        """Return the rank of each expert, [num_experts], int64; the next call writes over it.

        `work`, [num_experts] of int64, in `UNIT` parts of an active expert, 0 where it has no row;
        `slowness`, [num_ranks]. `watt_prices`, [num_ranks], are added to the ranks' finish times.
        """
        self._work.copy_(work)
        self._load.zero_()
        torch.index_select(self._work, 0, self._sole, out=self._sole_work)
        self._load.index_add_(0, self._sole_home, self._sole_work)
        torch.index_select(self._work, 0, self._contested, out=self._mine)
        self._offset.copy_(self._mine.unsqueeze(1)).add_(round(launch_experts * UNIT) + _TIE)
        torch.index_select(slowness, 0, self._flat, out=self._slow)
        if watt_prices is not None:
            torch.index_select(watt_prices, 0, self._flat, out=self._price)
        for turn in range(num_passes):
            for (
                flat,
                grid,
                offset,
                slow,
                price,
                finish,
                table,
                best,
                here,
                chosen,
                mine,
            ) in self._waves:
                if turn:
                    self._load.index_add_(0, chosen, mine, alpha=-1)
                torch.index_select(self._load, 0, flat, out=finish)
                finish.add_(offset).mul_(slow)
                if watt_prices is not None:
                    finish.add_(price)
                torch.argmin(table, dim=1, keepdim=True, out=best)
                torch.gather(grid, 1, best, out=here)
                self._load.index_add_(0, chosen, mine)
        self._home.copy_(self._first)
        return self._home.index_copy_(0, self._contested, self._here[:, 0])


@lru_cache(maxsize=256)
def homes_of(placement: Placement, num_experts: int, device: torch.device) -> Homes:
    """Return a placement's homes on a device, made at the first call and kept.

    Raises WorkloadError: the placement is of other experts.
    """
    return Homes(placement, num_experts, device)


def expert_work(rows: Tensor, curve: StepCurve, out: Tensor) -> Tensor:
    """Return what experts with `rows`, [num_experts], have to do, in `UNIT` parts, in `out`."""
    out.copy_(rows).clamp_(max=1).mul_(UNIT)
    return out.add_(rows, alpha=round(curve.row_experts * UNIT))
