"""Rows of a rank's experts where a gate with groups changes an assignment that is known.

The assignment is the collector's of aiconfigurator (`collector/helper.py`, functions
`balanced_logits` and `_assign_experts_from_counts`): under a power law, experts in falling order of
their rows fill the slots of all tokens one after the other, so that neighbouring tokens mostly have
the same experts. Tokens with the same experts are decided once, which makes the cost depend on the
number of experts and not on that of tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.workload.routing.grouped import limited_ids
from moeprof.workload.routing.strided import strided_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.workload.routing.pattern import Grouped


def grouped_strided_rows(
    gate: Grouped, *, num_tokens: int, num_experts: int, top_k: int
) -> NDArray[np.int64]:
    """Return rows per expert, [num_experts], of a batch that is dealt by a fixed stride."""
    stride = -(-num_experts // top_k)
    num_cycles = max(0, (num_tokens - stride) // num_experts)

    def rows(count: int) -> NDArray[np.int64]:
        ids = strided_ids(num_tokens=count, num_experts=num_experts, top_k=top_k)
        return np.bincount(_chosen(gate, ids, num_experts).ravel(), minlength=num_experts)

    found = rows(num_tokens - num_cycles * num_experts)
    # A token's experts repeat after as many tokens as there are experts.
    return found + num_cycles * rows(num_experts) if num_cycles else found


def grouped_rows_of_counts(
    gate: Grouped, counts: NDArray[np.int64], num_tokens: NDArray[np.int64], top_k: int
) -> NDArray[np.int64]:
    """Return rows per expert after the gate, like `counts` [num_cases, num_experts].

    `counts` are the rows that were meant; each case's sum to its `num_tokens`, [num_cases], times
    `top_k`, and none is above `num_tokens`.
    """
    num_cases, num_experts = counts.shape
    order = np.argsort(-counts, axis=1, kind="stable")
    ends = np.cumsum(np.take_along_axis(counts, order, axis=1), axis=1)
    # Slot j of token t is number j x num_tokens + t of the filled slots, so a token differs from
    # the one before it only where some expert's run ends.
    starts = np.sort(ends % num_tokens[:, np.newaxis], axis=1)
    widths = np.diff(starts, axis=1, append=num_tokens[:, np.newaxis])
    case, place = np.nonzero(widths)
    slots = starts[case, place][:, np.newaxis] + np.arange(top_k) * num_tokens[case, np.newaxis]
    # One search for all cases: each one's ends are lifted above those of the case before.
    lift = (np.arange(num_cases) * (num_tokens.max() * top_k + 1))[:, np.newaxis]
    run = np.searchsorted((ends + lift).ravel(), slots + lift[case], side="right")
    ids = order[case[:, np.newaxis], run - case[:, np.newaxis] * num_experts]
    chosen = _chosen(gate, ids, num_experts) + case[:, np.newaxis] * num_experts
    weights = np.repeat(widths[case, place], top_k)
    rows = np.bincount(chosen.ravel(), weights=weights, minlength=counts.size)
    return np.rint(rows).astype(np.int64).reshape(counts.shape)


def _chosen(gate: Grouped, ids: NDArray[np.int64], num_experts: int) -> NDArray[np.int64]:
    return limited_ids(
        ids, num_experts=num_experts, num_groups=gate.num_groups, num_allowed=gate.num_allowed
    )
