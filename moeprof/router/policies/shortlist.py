"""The experts that a whole batch values most, and that all its tokens share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moeprof.router.policies.ranking import best_mask

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.router.policies.ranking import Ranking


def shortlist(values: Tensor, num_kept: int) -> Tensor:
    """Return which experts have the greatest `values`, both [num_experts]; ties: lower index."""
    best = values.argsort(descending=True, stable=True)[:num_kept]
    return torch.zeros_like(values, dtype=torch.bool).scatter(0, best, value=True)


def or_own_best(kept: Tensor, ranking: Ranking) -> Tensor:
    """Return `kept`, [num_experts], token by token, with its best one where it may use none of it.

    [num_tokens, num_experts]. Only group limits can forbid a token all that the batch keeps.
    """
    stranded = ~(kept & ranking.allowed).any(dim=-1, keepdim=True)
    return kept | (stranded & best_mask(ranking.keys, 1))
