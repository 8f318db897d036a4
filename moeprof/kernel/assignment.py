"""Which token every row belongs to, where a workload says only how many rows an expert has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.workload.workload import Workload

ABSENT = -1


@dataclass(frozen=True, slots=True)
class Assignment:
    """Rows and tokens of one rank; rows are sorted by expert.

    `row_tokens` int32 `[num_rows]`: the token of every row. `row_experts` int32 `[num_rows]`: its
    local expert. `token_rows` int32 `[num_tokens, top_k]`: the rows of every token in rising
    order, then ABSENT for experts that are on other ranks.
    """

    row_tokens: NDArray[np.int32]
    row_experts: NDArray[np.int32]
    token_rows: NDArray[np.int32]

    @property
    def num_tokens(self) -> int:
        """How many tokens there are, those without a row on this rank included."""
        return int(self.token_rows.shape[0])

    @property
    def topk_experts(self) -> NDArray[np.int32]:
        """Local expert of each of a token's slots, `[num_tokens, top_k]`; ABSENT where on none."""
        # A row more than there are takes the place of ABSENT, which would index from the end.
        experts = np.append(self.row_experts, np.int32(ABSENT))
        return np.asarray(experts[self.token_rows], dtype=np.int32)


def assign(workload: Workload) -> Assignment:
    """Deal the rows to the tokens in turn, so that no token meets an expert twice.

    There are as many tokens as the batch has, and more where some expert, or all together, have
    more rows than such a batch can make.
    """
    num_rows, top_k = workload.num_rows, workload.layer.top_k
    num_tokens = max(workload.batch_size, workload.max_rows_per_expert, -(-num_rows // top_k))
    counts = np.asarray(workload.rows_per_expert, dtype=np.int64)
    row_tokens = np.arange(num_rows, dtype=np.int32) % num_tokens
    token_rows = np.full((num_tokens, top_k), ABSENT, dtype=np.int32)
    token_rows[row_tokens, np.arange(num_rows) // num_tokens] = np.arange(num_rows)
    return Assignment(
        row_tokens=row_tokens,
        row_experts=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        token_rows=token_rows,
    )
