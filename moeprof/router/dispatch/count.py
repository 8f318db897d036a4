"""What a dispatch gives the ranks to do: rows, and active experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def rows_of_experts(experts: Tensor, num_experts: int, weights: Tensor | None = None) -> Tensor:
    """Return the rows of each expert, [num_experts], int64.

    `experts`, of any shape, int64; `weights`, so shaped: slots of weight 0 are no rows. Without
    them every slot is a row.
    """
    return _counted(experts, num_experts, weights)


def rows_of_ranks(ranks: Tensor, num_ranks: int, weights: Tensor | None = None) -> Tensor:
    """Return the rows of each rank, [num_ranks], int64; arguments as in `rows_of_experts`."""
    return _counted(ranks, num_ranks, weights)


def active_of_ranks(
    experts: Tensor,
    ranks: Tensor,
    num_experts: int,
    num_ranks: int,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the active experts of each rank, [num_ranks], int64: the distinct ones with rows.

    `experts` and `ranks`, so shaped, are those of the slots; `weights` as in `rows_of_experts`.
    """
    rows = _counted(ranks * num_experts + experts, num_ranks * num_experts, weights)
    return (rows.view(num_ranks, num_experts) > 0).sum(dim=1)


def _counted(ids: Tensor, size: int, weights: Tensor | None) -> Tensor:
    # torch.bincount would make the host wait for the device, and cannot be captured.
    ones = torch.ones_like(ids) if weights is None else (weights != 0).to(torch.int64)
    counts = torch.zeros(size, dtype=torch.int64, device=ids.device)
    return counts.scatter_add_(0, ids.flatten(), ones.flatten())
